"""The event log: its topics, how events become bytes and back, and where something is in it."""
