"""What runs inside supervisord for web clients: the page and the JSON interface."""
