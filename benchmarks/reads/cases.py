"""What is asked: every filter, every sort both ways, pages far behind."""

from collections.abc import Mapping
from datetime import timedelta

from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR, LEVEL_WARNING

from benchmarks.reads.data import GREAT_SESSION, Loaded

_SORTS = (pb.TRACE_SORT_START_TIME, pb.TRACE_SORT_LATENCY, pb.TRACE_SORT_COST, pb.TRACE_SORT_TOKENS, pb.TRACE_SORT_NAME)
_ORDERS = {"descending": pb.SORT_ORDER_DESCENDING, "ascending": pb.SORT_ORDER_ASCENDING}


def filters(loaded: Loaded) -> Mapping[str, pb.TraceFilter]:
    """Each filter, where it matters with what many traces have and with what few have."""
    day = pb.TraceFilter()
    day.start_from.FromDatetime(loaded.began + timedelta(days=4))
    day.start_before.FromDatetime(loaded.began + timedelta(days=5))
    return {
        "one day of ten": day,
        "name, many": pb.TraceFilter(names=["answer"]),
        "name, few": pb.TraceFilter(names=["classify 1650"]),
        "three names": pb.TraceFilter(names=["answer", "classify", "classify 1650"]),
        "name contains, many": pb.TraceFilter(name_contains="INVOICE"),
        "name contains, few": pb.TraceFilter(name_contains="fy 165"),
        "name contains, none": pb.TraceFilter(name_contains="no such name"),
        "user, many": pb.TraceFilter(user_ids=["user-0"]),
        "user, few": pb.TraceFilter(user_ids=["user-900"]),
        "session of eight": pb.TraceFilter(session_ids=["session-900"]),
        "session, a twentieth": pb.TraceFilter(session_ids=[GREAT_SESSION]),
        "environment, many": pb.TraceFilter(environments=["production"]),
        "environment, few": pb.TraceFilter(environments=["development"]),
        "environment, none": pb.TraceFilter(environments=["no such"]),
        "release, the first": pb.TraceFilter(releases=["4.0.0"]),
        "tag, many": pb.TraceFilter(tags=["chat"]),
        "tag, few": pb.TraceFilter(tags=["canary"]),
        "two tags": pb.TraceFilter(tags=["chat", "vip"]),
        "tag, none": pb.TraceFilter(tags=["no such"]),
        "at least a warning": pb.TraceFilter(min_level=LEVEL_WARNING),
        "at least an error": pb.TraceFilter(min_level=LEVEL_ERROR),
        "has an error": pb.TraceFilter(has_error=True),
        "has no error": pb.TraceFilter(has_error=False),
        "latency, few above": pb.TraceFilter(min_latency_us=6_000_000),
        "latency, none above": pb.TraceFilter(min_latency_us=60_000_000_000),
        "latency, few below": pb.TraceFilter(max_latency_us=60_000),
        "cost, few above": pb.TraceFilter(min_cost_usd=0.002),
        "cost, none below": pb.TraceFilter(max_cost_usd=0),
        "tokens, few above": pb.TraceFilter(min_tokens=6_000),
        "tokens, none below": pb.TraceFilter(max_tokens=1),
    }


def lists(loaded: Loaded) -> Mapping[str, pb.ListTracesRequest]:
    """Requests of ListTraces, first pages of 50."""
    found = {"latest 50": pb.ListTracesRequest()}
    found |= {name: pb.ListTracesRequest(filter=wanted) for name, wanted in filters(loaded).items()}
    for sort in _SORTS:
        for order, number in _ORDERS.items():
            name = pb.TraceSort.Name(sort).removeprefix("TRACE_SORT_").lower().replace("_", " ")
            found[f"by {name}, {order}"] = pb.ListTracesRequest(sort=sort, order=number)
    found["by latency, one day of ten"] = pb.ListTracesRequest(
        filter=filters(loaded)["one day of ten"], sort=pb.TRACE_SORT_LATENCY
    )
    found["by cost, of a name that few have"] = pb.ListTracesRequest(
        filter=filters(loaded)["name, few"], sort=pb.TRACE_SORT_COST
    )
    return found


def session_lists() -> Mapping[str, pb.ListSessionsRequest]:
    """Requests of ListSessions."""
    return {
        "latest 50 sessions": pb.ListSessionsRequest(),
        "sessions of a user that many have": pb.ListSessionsRequest(user_ids=["user-0"]),
        "sessions of a user that few have": pb.ListSessionsRequest(user_ids=["user-900"]),
        "sessions of an environment": pb.ListSessionsRequest(environments=["development"]),
    }
