"""The log against the read model, on a live system: what is missing, extra or altered, up to the positions.

The log is folded by the projection's own pure functions; the tables are read by SQL of their own. Both sides become
small entries, spread over files by span, so that memory does not grow with the log.
"""
