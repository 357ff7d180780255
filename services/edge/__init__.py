"""Doors for people and scripts: clients of our own gRPC API."""
