"""Spans of the log become the traces read model: `spans`, `span_blocks` and `traces`, each record exactly once.

Reads `lodestream.traces`; writes the Postgres schema `traces`, and its position, in one transaction. Any number of
processes share the partitions; several may write to one trace at the same time.
"""
