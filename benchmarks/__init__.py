"""What Lodestream does in a second, for how much CPU: one file a question, all of them by `make bench`."""
