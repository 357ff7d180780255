"""Dialects: what spans of different conventions mean. Pure functions; the first dialect with an answer wins.

A `Dialect` declares for each field the attribute keys it is read from, or an `Extractor`; `extraction` makes rules of
all dialects; `read_columns` reads what becomes a span's row, `read_content` the rest. Attributes that no dialect knows
are kept among the content.
"""

from shared.spans.dialects.columns import read_columns
from shared.spans.dialects.content import read_content
from shared.spans.dialects.dialect import SpanColumns, SpanContent

__all__ = ["SpanColumns", "SpanContent", "read_columns", "read_content"]
