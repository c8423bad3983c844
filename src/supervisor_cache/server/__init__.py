"""What runs inside supervisord. Imports nothing but ``supervisor`` and the standard library, all of it at start."""
