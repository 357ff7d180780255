"""Requests become events: the only code that appends to the log."""
