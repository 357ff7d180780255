"""Torture: programs write, a nemesis breaks things on a seeded schedule, and a checker with no code of ours judges.

`python -m tests.torture --seconds 60 --seed 7` plays one run; docs/proof.md tells how to read what it says.
"""
