"""From the log: which runs there are for workers, and what has become of them."""
