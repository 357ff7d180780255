"""Answers from the read models: traces, scores, prompts, datasets, runs, and how far projections have come.

Reads Postgres with a role that can only SELECT, and asks Kafka for the ends of the log. Every answer is scoped to the
project of the call's API key, and says up to when it is complete.
"""
