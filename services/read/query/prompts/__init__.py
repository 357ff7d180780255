"""Prompts: as they are, as they were, how they became so, and what generations made with them were like."""
