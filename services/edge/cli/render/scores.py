"""Scores as pictures: what was given, its history, and what it comes to."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, tzinfo

from lodestream_proto.v1 import score_event_pb2 as events
from lodestream_proto.v1.query_pb2 import GetTraceOverviewResponse, GetTraceResponse
from lodestream_proto.v1.scores_pb2 import Score, ScoreGroup
from lodestream_proto.v1.trace_pb2 import AttachedScore, Span, TraceSummary
from rich.text import Text

from services.edge.cli.render.quantities import count, instants
from services.edge.cli.render.tables import Column, lay_out
from services.edge.cli.render.text import escape_control

_MOST_COLUMNS = 4
_SOURCES = {
    events.SCORE_SOURCE_API: "api",
    events.SCORE_SOURCE_EVALUATOR: "evaluator",
    events.SCORE_SOURCE_ANNOTATION: "annotation",
}
_TYPES = {
    events.SCORE_TYPE_NUMERIC: "numeric",
    events.SCORE_TYPE_CATEGORICAL: "categorical",
    events.SCORE_TYPE_BOOLEAN: "boolean",
    events.SCORE_TYPE_TEXT: "text",
}


def score_table(scores: Sequence[Score], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A table with one line per score. The id is never cut, as other commands take it."""
    times = instants([score.scored_at for score in scores], zone, today)
    return lay_out(
        [
            Column(title="given", cells=[Text(each, style="dim") for each in times], rank=2),
            Column(title="name", cells=[Text(escape_control(score.name)) for score in scores], min_width=12),
            Column(title="value", cells=[score_text(score.value) for score in scores], min_width=8),
            Column(title="target", cells=[_target(score.target) for score in scores], rank=1, min_width=16),
            Column(title="source", cells=[Text(_SOURCES.get(score.source, "")) for score in scores], rank=5),
            Column(
                title="by",
                cells=[Text(escape_control(score.author or score.evaluator_version)) for score in scores],
                rank=4,
                min_width=8,
            ),
            Column(
                title="comment", cells=[Text(escape_control(score.comment)) for score in scores], rank=3, min_width=12
            ),
            Column(title="", cells=[_standing(score) for score in scores]),
            Column(title="id", cells=[Text(escape_control(score.score_id), style="dim") for score in scores], rank=6),
        ],
        width,
    )


def group_table(groups: Sequence[ScoreGroup], *, width: int) -> list[Text]:
    """A table with one line per name and group."""
    return lay_out(
        [
            Column(title="name", cells=[Text(escape_control(group.name)) for group in groups], min_width=12),
            Column(title="", cells=[Text(escape_control(group.key)) for group in groups], rank=1, min_width=12),
            Column(title="count", cells=[Text(count(group.count)) for group in groups], right=True),
            *(
                Column(title=title, cells=[_number(group, field) for group in groups], right=True, rank=rank)
                for title, field, rank in (
                    ("average", "average", 1), ("median", "median", 2), ("min", "minimum", 3), ("max", "maximum", 4),
                )
            ),
            Column(title="given", cells=[_shares(group) for group in groups], rank=5, min_width=16),
        ],
        width,
    )  # fmt: skip


def config_table(configs: Sequence[events.ScoreConfigDefined], *, width: int) -> list[Text]:
    """A table with one line per score config."""
    return lay_out(
        [
            Column(title="id", cells=[Text(escape_control(config.config_id)) for config in configs]),
            Column(title="name", cells=[Text(escape_control(config.name)) for config in configs], min_width=12),
            Column(title="type", cells=[Text(_TYPES.get(config.type, "")) for config in configs], rank=1),
            Column(title="values", cells=[_range(config) for config in configs], rank=2, min_width=16),
            Column(
                title="description",
                cells=[Text(escape_control(config.description)) for config in configs],
                rank=3,
                min_width=16,
            ),
            Column(title="", cells=[Text("archived" if config.archived else "", style="yellow") for config in configs]),
        ],
        width,
    )


def attached_scores(answer: GetTraceResponse | GetTraceOverviewResponse, *, width: int) -> list[Text]:
    """A table of the scores of a trace and its spans; empty where there are none."""
    attached: list[tuple[Span | None, AttachedScore]] = [(None, score) for score in answer.scores]
    attached += [(span, score) for span in answer.spans for score in span.scores]
    if not attached:
        return []
    table = lay_out(
        [
            Column(title="score", cells=[Text(escape_control(score.name)) for _, score in attached], min_width=12),
            Column(title="value", cells=[score_text(score.value) for _, score in attached], min_width=8),
            Column(
                title="target",
                cells=[Text(escape_control(span.name) if span else "the trace") for span, _ in attached],
                min_width=10,
            ),
            Column(title="by", cells=[_giver(score) for _, score in attached], rank=2, min_width=8),
            Column(
                title="comment",
                cells=[Text(escape_control(score.comment)) for _, score in attached],
                rank=1,
                min_width=12,
            ),
        ],
        width,
    )
    return [Text(), *table]


def score_columns(traces: Sequence[TraceSummary]) -> list[Column]:
    """Columns for the score names that most of these traces have."""
    names = Counter(column.name for trace in traces for column in trace.scores)
    return [
        Column(title=escape_control(name), cells=[_cell(trace, name) for trace in traces], right=True, rank=5 + rank)
        for rank, (name, _) in enumerate(names.most_common(_MOST_COLUMNS))
    ]


def score_text(value: events.ScoreValue) -> Text:
    """A number with up to four digits, a boolean in its colour, a text as it is."""
    match value.WhichOneof("kind"):
        case "numeric":
            return Text(f"{value.numeric:.4g}")
        case "boolean":
            return Text("true", style="green") if value.boolean else Text("false", style="red")
        case "categorical":
            return Text(escape_control(value.categorical))
    return Text(escape_control(value.text))


def _cell(trace: TraceSummary, name: str) -> Text:
    column = next((column for column in trace.scores if column.name == name), None)
    if column is None:
        return Text("")
    if column.HasField("average"):
        return Text(f"{column.average:.3g}")
    return Text(escape_control(", ".join(sorted(column.categories))))


def _giver(score: AttachedScore) -> Text:
    return Text(escape_control(score.author or score.evaluator_version or _SOURCES.get(score.source, "")), style="dim")


def _target(target: events.ScoreTarget) -> Text:
    if target.trace_id:
        span = f" span {target.span_id.hex()}" if target.span_id else ""
        return Text(f"trace {target.trace_id.hex()}{span}", style="dim")
    return Text(
        escape_control(f"session {target.session_id}" if target.session_id else f"run {target.run_id}"), style="dim"
    )


def _standing(score: Score) -> Text:
    if score.retracted:
        return Text(
            escape_control(f"retracted: {score.retraction_reason}" if score.retraction_reason else "retracted"),
            "yellow",
        )
    return Text("superseded" if score.superseded else "", style="dim")


def _number(group: ScoreGroup, field: str) -> Text:
    return Text(f"{getattr(group, field):.4g}") if group.HasField(field) else Text("")  # type: ignore[arg-type]


def _shares(group: ScoreGroup) -> Text:
    ranked = sorted(group.categories.items(), key=lambda pair: (-pair[1], pair[0]))
    return Text(escape_control(", ".join(f"{name} {times:,}" for name, times in ranked)))


def _range(config: events.ScoreConfigDefined) -> Text:
    if config.categories:
        return Text(escape_control(", ".join(f"{category.label}={category.value:g}" for category in config.categories)))
    lower = f"{config.min_value:g}" if config.HasField("min_value") else ""
    upper = f"{config.max_value:g}" if config.HasField("max_value") else ""
    return Text(f"{lower} … {upper}" if lower or upper else "")
