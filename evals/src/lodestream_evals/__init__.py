"""Evaluators, prompts, JSON of values, reports and the mock model, as the server and the SDK share them.

Pure but for the process that validates against JSON Schemas: no client, no server, no database. Programs import what
is public from `lodestream`, `lodestream.evaluators` and `lodestream.reports`.
"""
