"""The file beside a database by which its readers learn of a change: what its writer and they agree on."""

# Appended to the path of the database.
SUFFIX = "-generation"
# Of the number at its beginning, which is another one after each change. Its bytes are little-endian.
BYTES = 8
# The number of a file that nobody writes to any more: there is another one.
GONE = 2**64 - 1
