"""Records to rows, purely: spans from what was told of them, summaries from spans."""
