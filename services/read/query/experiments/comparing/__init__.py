"""What CompareExperiments reads of runs, what it compares of them, and what it tells beside the figures."""
