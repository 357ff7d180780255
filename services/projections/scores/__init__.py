"""Scores of the log become the scores read model: what holds now, and all that was ever said, each record exactly once.

Reads `lodestream.scores`; writes the Postgres schema `scores`, and its position, in one transaction. Any number of
processes share the partitions; several may write under one score id at the same time.
"""
