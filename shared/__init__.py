"""What at least two services need: the event log, the read models' ground, and how a process runs. Nothing else."""
