"""The cache itself: pure decisions, without I/O, clock, logging or Supervisor."""
