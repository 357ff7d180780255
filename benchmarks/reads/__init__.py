"""What reads cost when the read model is large: `python -m benchmarks.reads`, by default 200,000 traces."""
