"""Experiments: runs, what came of their items, and how they go on while one looks."""
