"""Who writes, watches, crashes and disturbs in `tests/e2e/test_soak.py`; some of them are programs of their own."""
