"""PromptService at the gateway: commands that the log decides, cached reads, and watches."""
