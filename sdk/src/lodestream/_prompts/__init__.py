"""Prompts: fetched once, kept true by a watch, compiled without an engine."""
