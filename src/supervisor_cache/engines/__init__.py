"""Where entries are kept, one module for each kind of storage."""
