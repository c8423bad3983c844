"""The command ``supervisor-cache``: the verbs for scripts and processes, and what it has alone."""
