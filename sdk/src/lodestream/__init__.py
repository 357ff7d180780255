"""Lodestream's Python SDK. Nothing is public yet."""
