"""Spans as they were received: payload blocks, the dialects that read them, and what a span costs."""
