"""Datasets: as they are and as they were at any version, their items, and how they became so."""
