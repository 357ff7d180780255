"""Who is calling: API keys, the callers they stand for, and how little an unknown key may cost."""
