"""Runs experiments whose task is a prompt: jobs in Postgres, model calls, results into the log, each exactly once.

Reads requested runs from `lodestream.experiments` and keeps their jobs in the Postgres schema `evaluator`, which is no
read model and is folded again when lost. Any number of processes share the jobs, and may die at any moment: a result is
decided in Postgres before it is published, so that only model calls may repeat (docs/decisions/0019). Appends to the
topics of traces, scores and experiments.
"""
