"""Delivery: what has ended goes through memory and a spool on disk to the server."""
