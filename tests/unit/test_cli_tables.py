"""Lists of traces, sessions, processes and projections."""

from datetime import UTC, date

from lodestream_proto.v1 import trace_pb2
from lodestream_proto.v1.query_pb2 import PROJECTION_STATE_HALTED, Freshness, ProjectionStatus
from lodestream_proto.v1.trace_pb2 import SessionSummary, Tokens, TraceSummary

from services.edge.cli.local_stack import LocalProcess
from services.edge.cli.render.tables import footer, list_footer
from services.edge.cli.sessions import session_summary, session_table
from services.edge.cli.status import process_table, projection_table
from services.edge.cli.traces import trace_line, trace_table
from tests.unit.cli_spans import TRACE_ID, at, support_question

TODAY = date(2026, 9, 21)
SESSION = SessionSummary(
    session_id="chat-42",
    start_time=at(0),
    end_time=at(100_000_000),
    trace_count=3,
    error_count=1,
    user_ids=["ada", "bob"],
    environments=["demo"],
    tokens=Tokens(input=10, output=20, total=30),
    cost_usd=1.5,
)


def traces(width: int) -> list[str]:
    running = TraceSummary(trace_id="ab" * 16, name="\x1b[2Jmove", start_time=at(0), span_count=1)
    table = trace_table([support_question()[0], running], width=width, zone=UTC, today=TODAY)
    return [line.plain.rstrip() for line in table]


def test_a_list_of_traces_at_80_columns_keeps_whole_ids() -> None:
    assert traces(80) == [
        "start     name              latency  level  id",
        f"14:13:20  support-question   2.00 s  error  {TRACE_ID}",
        f"14:13:20  ␛[2Jmove          running         {'ab' * 16}",
    ]


def test_a_list_of_traces_at_140_columns_has_room_for_more() -> None:
    title, first, _ = traces(140)
    assert title.split() == ["start", "name", "latency", "level", "spans", "tokens", "cost", "user", "session", "tags",
                             "env", "id"]  # fmt: skip
    assert "800→214  $0.0123  ada   chat-42" in first


def test_a_line_of_the_tail() -> None:
    line = trace_line(support_question()[0], width=120, zone=UTC).plain
    assert line == (
        f"14:13:20.0  {TRACE_ID}  2.00 s  support-question · 4 spans · 800→214 tokens · $0.0123 · user ada …"
    )


def test_a_list_of_sessions() -> None:
    assert [line.plain.rstrip() for line in session_table([SESSION], width=100, zone=UTC, today=TODAY)] == [
        "session  last seen  duration  traces  errors  tokens   cost  users     env",
        "chat-42  14:15:00     1m 40s       3       1   10→20  $1.50  ada, bob  demo",
    ]


def test_the_head_of_a_session() -> None:
    assert [line.plain for line in session_summary(SESSION, width=100)] == [
        "session chat-42",
        "  3 traces · 1 error · 1m 40s · 10→20 tokens · $1.50 · user ada, user bob · demo",
    ]


def test_the_footer_says_what_the_list_can_be_relied_on_for() -> None:
    known = Freshness(complete_until=at(4_200_000), lag_ms=1_234)
    assert footer(known, UTC).plain == "complete up to 14:13:24.2, lag 1.23 s"
    assert [line.plain for line in list_footer(3, known, "", UTC)] == [
        "3 shown · complete up to 14:13:24.2, lag 1.23 s"
    ]
    assert [line.plain for line in list_footer(50, Freshness(), "abc", UTC)] == [
        "50 shown · lag none",
        "next page: --page-token abc",
    ]


def test_processes_that_are_down_say_why() -> None:
    up = LocalProcess("gateway", "127.0.0.1:4317", 42, "ready", 50 * 1024 * 1024, 1, "")
    down = LocalProcess("query", "127.0.0.1:4319", None, "restarting", None, 2, "exit code 1")
    assert [line.plain.rstrip() for line in process_table([up, down], width=100)] == [
        "process  state                     pid  memory  address",
        "gateway  ready, restarted 1x        42   50 MB  127.0.0.1:4317",
        "query    restarting, restarted 2x               127.0.0.1:4319",
        "query: exit code 1",
    ]


def test_projections_tell_their_lag_and_where_they_stopped() -> None:
    projection = ProjectionStatus(
        projection="traces",
        topic="lodestream.traces",
        state=PROJECTION_STATE_HALTED,
        freshness=Freshness(complete_until=at(4_200_000), lag_ms=1_840),
    )
    assert [line.plain.rstrip() for line in projection_table([projection], width=100)] == [
        "projection  topic              state      lag",
        "traces      lodestream.traces  halted  1.84 s",
        "traces has halted in a part of the log: `lodestream admin positions` shows why",
    ]


def test_an_error_is_red_and_a_warning_yellow() -> None:
    for level, colour in ((trace_pb2.LEVEL_ERROR, "red"), (trace_pb2.LEVEL_WARNING, "yellow")):
        trace = TraceSummary(trace_id=TRACE_ID, name="trace", start_time=at(0), level=level)
        row = trace_table([trace], width=100, zone=UTC, today=TODAY)[1]
        assert {row.plain[mark.start : mark.end].strip() for mark in row.spans if mark.style == colour} >= {"trace"}
