"""Providers of models: a file for each kind, behind the interface in `provider`, found by name in `endpoints`."""
