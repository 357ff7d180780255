"""Experiments: a task over data, evaluated item by item, recorded as it goes, and resumed after a crash."""
