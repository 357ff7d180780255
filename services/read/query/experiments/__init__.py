"""ExperimentService's reads: runs, their results, their comparison, and following them while they go on."""
