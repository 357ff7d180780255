"""What every process does the same way: settings, logs and metrics, start and stop."""
