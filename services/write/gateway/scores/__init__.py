"""Scores: what can be taken of them, the configs they keep to, and the RPC that defines these."""
