"""The file beside a database by which its readers learn of a change: what its writer and they agree on."""

# Appended to the path of the database.
SUFFIX = "-generation"
# Of the number at its beginning, which is another one after each change. Its bytes are little-endian.
BYTES = 8
# The number of a file that nobody writes to any more: there is another one.
GONE = 2**64 - 1
# Then comes the process id of the writer, and then what stays as it is while a change is told in the history. With
# other bytes here, which are written before the number, all is to be read anew.
EPOCH = slice(16, 32)
