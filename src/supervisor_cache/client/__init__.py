"""What runs in the processes that use a cache."""
