"""Experiments: a task over data, judged item by item, recorded as it goes, and gone on with after a crash."""
