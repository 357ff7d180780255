"""Integrations of libraries that call models: what they do becomes observations."""
