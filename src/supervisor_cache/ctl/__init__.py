"""What runs inside supervisorctl."""
