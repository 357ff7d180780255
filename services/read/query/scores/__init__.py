"""Scores: ScoreService's reads, and what traces show of them."""
