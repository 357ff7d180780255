"""Score configs as their table has them, for those who check scores and those who show them."""

import asyncpg
from lodestream_proto.v1.score_event_pb2 import ScoreCategory, ScoreConfigDefined

COLUMNS = "config_id, name, type, min_value, max_value, labels, label_values, description, archived"


def config_of(row: asyncpg.Record) -> ScoreConfigDefined:
    """The config in a row of these columns of score_configs."""
    return ScoreConfigDefined(
        config_id=row["config_id"],
        name=row["name"],
        type=row["type"],
        min_value=row["min_value"],
        max_value=row["max_value"],
        categories=[
            ScoreCategory(label=label, value=value)
            for label, value in zip(row["labels"], row["label_values"], strict=True)
        ],
        description=row["description"],
        archived=row["archived"],
    )
