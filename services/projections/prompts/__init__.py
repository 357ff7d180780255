"""Commands about prompts become versions, labels and verdicts, in the order of the log; Redis learns what changed.

Reads `lodestream.prompts`; writes the Postgres schema `prompts`, and its position, in one transaction, and from there
the prompt cache. Any number of processes share the partitions; one of them has all of a prompt's commands.
"""
