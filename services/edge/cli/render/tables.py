"""Lists of traces and sessions as tables, and the line that says what a list can be relied on for."""

from collections.abc import Callable, Sequence
from datetime import date, tzinfo

from lodestream_proto.v1.query_pb2 import Freshness
from lodestream_proto.v1.trace_pb2 import SessionSummary, TraceSummary
from rich.text import Text

from services.edge.cli.render.columns import Column, lay_out
from services.edge.cli.render.looks import level_word, named
from services.edge.cli.render.quantities import clock, cost, count, counted, duration, instants, micros, tokens
from services.edge.cli.render.scores import score_columns
from services.edge.cli.render.text import clipped, fitted, flowed, inert


def trace_table(traces: Sequence[TraceSummary], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A line a trace. The id is never clipped: it is what the other commands take."""
    starts = instants([trace.start_time for trace in traces], zone, today)

    def texts(say: Callable[[TraceSummary], str]) -> list[Text]:
        return [Text(inert(say(trace))) for trace in traces]

    return lay_out(
        [
            Column(title="start", cells=[Text(start, style="dim") for start in starts], rank=2),
            Column(title="name", cells=[named(trace.name, trace.level) for trace in traces], least=20),
            Column(title="latency", cells=[_latency(trace) for trace in traces], right=True, rank=1),
            Column(title="level", cells=[level_word(trace.level) for trace in traces], rank=3),
            Column(title="spans", cells=texts(lambda trace: count(trace.span_count)), right=True, rank=6),
            Column(title="tokens", cells=texts(lambda trace: tokens(trace.tokens)), right=True, rank=5),
            Column(title="cost", cells=texts(lambda trace: cost(trace.cost_usd)), right=True, rank=4),
            Column(title="user", cells=texts(lambda trace: trace.user_id), rank=7, least=8),
            Column(title="session", cells=texts(lambda trace: trace.session_id), rank=8, least=8),
            Column(title="tags", cells=texts(lambda trace: ", ".join(trace.tags)), rank=10, least=8),
            Column(title="env", cells=texts(lambda trace: trace.environment), rank=9, least=6),
            Column(title="release", cells=texts(lambda trace: trace.release), rank=11, least=6),
            *score_columns(traces),
            Column(title="id", cells=[Text(trace.trace_id, style="dim") for trace in traces]),
        ],
        width,
    )


def session_table(sessions: Sequence[SessionSummary], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A line a session. The id comes first, and is clipped last."""
    ends = instants([session.end_time for session in sessions], zone, today)

    def texts(say: Callable[[SessionSummary], str]) -> list[Text]:
        return [Text(inert(say(session))) for session in sessions]

    return lay_out(
        [
            Column(title="session", cells=texts(lambda session: session.session_id)),
            Column(title="last seen", cells=[Text(end, style="dim") for end in ends], rank=2),
            Column(title="duration", cells=texts(_lasted), right=True, rank=4),
            Column(title="traces", cells=texts(lambda session: count(session.trace_count)), right=True, rank=1),
            Column(title="errors", cells=[_errors(session) for session in sessions], right=True, rank=3),
            Column(title="tokens", cells=texts(lambda session: tokens(session.tokens)), right=True, rank=6),
            Column(title="cost", cells=texts(lambda session: cost(session.cost_usd)), right=True, rank=5),
            Column(title="users", cells=texts(lambda session: ", ".join(session.user_ids)), rank=7, least=8),
            Column(title="env", cells=texts(lambda session: ", ".join(session.environments)), rank=8, least=6),
        ],
        width,
    )


def session_head(session: SessionSummary, *, width: int) -> list[Text]:
    """What is known of one session as a whole."""
    pieces = [
        Text(counted(session.trace_count, "trace")),
        Text(counted(session.error_count, "error"), style="red") if session.error_count else Text("no errors"),
        Text(_lasted(session)),
        Text(f"{tokens(session.tokens) or 'no'} tokens"),
        Text(cost(session.cost_usd)),
        Text(inert(", ".join(f"user {user}" for user in session.user_ids))),
        Text(inert(", ".join(session.environments))),
    ]
    title = Text("session ") + Text(inert(session.session_id), style="bold")
    return [title, *flowed([piece for piece in pieces if piece.plain], width, gap=" · ", indent=2)]


def trace_line(trace: TraceSummary, *, width: int, zone: tzinfo) -> Text:
    """One trace in a line of its own, with the same columns in every line."""
    rest = [
        Text(counted(trace.span_count, "span")),
        Text(f"{tokens(trace.tokens)} tokens" if trace.tokens.total else ""),
        Text(cost(trace.cost_usd)),
        Text(inert(f"user {trace.user_id}" if trace.user_id else "")),
        Text(inert(f"session {trace.session_id}" if trace.session_id else "")),
    ]
    return clipped(
        Text("  ").join(
            [
                Text(clock(trace.start_time, zone), style="dim"),
                Text(trace.trace_id, style="dim"),
                fitted(_latency(trace), len("999 ms"), right=True),
                Text(" · ").join([piece for piece in [named(trace.name, trace.level), *rest] if piece.plain]),
            ]
        ),
        width,
    )


def footer(known: Freshness, zone: tzinfo) -> Text:
    """Up to when an answer is complete, and how far that is behind."""
    complete = f"complete up to {clock(known.complete_until, zone)}, " if known.HasField("complete_until") else ""
    return Text(f"{complete}lag {lag(known)}", style="dim")


def lag(known: Freshness) -> str:
    """`none`, `1.84 s`, or `all` where nothing is known to be complete."""
    if not known.lag_ms:
        return "none"
    return duration(known.lag_ms * 1_000) if known.complete_until.seconds else "all"


def list_footer(rows: int, known: Freshness, next_page_token: str, zone: tzinfo) -> list[Text]:
    """The same for a list: how long it is, and, in a line to copy, where it goes on."""
    shown = Text(f"{rows:,} shown · ", style="dim").append_text(footer(known, zone))
    return [shown, Text(f"more: --page-token {inert(next_page_token)}", style="dim")] if next_page_token else [shown]


def _latency(trace: TraceSummary) -> Text:
    return Text(duration(trace.latency_us)) if trace.HasField("end_time") else Text("running", style="yellow")


def _errors(session: SessionSummary) -> Text:
    return Text(count(session.error_count), style="red") if session.error_count else Text("")


def _lasted(session: SessionSummary) -> str:
    if not session.HasField("end_time"):
        return ""
    return duration(max(micros(session.end_time) - micros(session.start_time), 0))
