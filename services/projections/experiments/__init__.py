"""Datasets and experiment runs of the log become the experiments read model, in the order of the log, each event once.

Reads `lodestream.experiments`; writes the Postgres schema `experiments`, and its position, in one transaction. Any
number of processes share the partitions; one of them has all events of a dataset, and of a run. Nothing here depends
on the order between a dataset and its runs.
"""
