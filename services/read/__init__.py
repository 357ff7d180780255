"""Read models become answers."""
