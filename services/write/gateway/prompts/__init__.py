"""PromptService at the door: commands that the log decides; reads from memory, Redis, the query service; watching."""
