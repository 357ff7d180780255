"""Dialects: what spans of different conventions mean. Pure functions; the first dialect that answers wins.

`hot` reads what becomes columns, `content` the rest. What no dialect knows stays among the attributes.
"""

from shared.read_model.dialects.content import content
from shared.read_model.dialects.fields import Content, Hot
from shared.read_model.dialects.hot import hot

__all__ = ["Content", "Hot", "content", "hot"]
