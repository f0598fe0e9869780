"""Loggers: called from a thread of their own, and never a reason to stop."""
