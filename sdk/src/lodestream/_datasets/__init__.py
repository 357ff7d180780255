"""Datasets: versions that are exact for ever, read page by page, written row by row."""
