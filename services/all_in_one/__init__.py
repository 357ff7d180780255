"""Lodestream on one machine: real servers and every service as processes, for a laptop and for the tests."""
