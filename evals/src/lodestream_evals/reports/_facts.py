"""What a run was: the facts beside its figures."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._readable import one_line
from lodestream_evals.reports._units import Kind, count, interval, seconds, shown, usd

_MOST = 120


def title(run: pb.ExperimentRun) -> str:
    """Its name, in one line."""
    return one_line(run.request.name or run.request.run_id or "a run", 200)


def progress(run: pb.ExperimentRun) -> str:
    """`100 of 100 items, 3 failed`."""
    of = f" of {run.items_total:,}" if run.items_total else ""
    failed = f", {run.items_failed:,} failed" if run.items_failed else ""
    return f"{run.items_finished:,}{of} items{failed}"


def facts(run: pb.ExperimentRun) -> list[tuple[str, str]]:
    """Names and values, those that are known."""
    request = run.request
    data = one_line(run.dataset_name, _MOST)
    if data and request.dataset_version:
        data += f" version {request.dataset_version:,}"
    if request.splits:
        data += f" ({one_line(', '.join(request.splits), _MOST)})"
    tokens = f"{run.usage.input_tokens:,} in, {run.usage.output_tokens:,} out"
    spent = usd(run.usage.cost_picodollars / 1e12) if run.usage.HasField("cost_picodollars") else ""
    latency = f"p50 {seconds(run.latency_p50_us / 1e6)}, p95 {seconds(run.latency_p95_us / 1e6)}"
    found = [
        ("dataset", data),
        ("task", task(request.task_json)),
        ("repetitions", f"{request.repetitions:,}" if request.repetitions > 1 else ""),
        ("latency", latency if run.latency_p95_us else ""),
        ("tokens", tokens if run.usage.input_tokens or run.usage.output_tokens else ""),
        ("cost", spent),
        ("author", one_line(request.author, _MOST)),
        ("description", one_line(request.description, 400)),
        ("run id", one_line(request.run_id, _MOST)),
    ]
    return [(name, value) for name, value in found if value]


def task(task_json: str) -> str:
    """`support-answer version 4 with mock mock-large`; of a program's own function its kind."""
    try:
        parsed = json.loads(task_json) if task_json else {}
    except (ValueError, RecursionError):
        return ""
    if not isinstance(parsed, dict):
        return ""
    if parsed.get("kind") != "prompt":
        named = parsed.get("name") or parsed.get("function") or ""
        return one_line(f"a program's own {named}" if named else "a program's own", _MOST)
    prompt = parsed.get("prompt")
    name = _prompt(prompt) if isinstance(prompt, dict) else ""
    return one_line(f"{name} with {parsed.get('provider', '')} {parsed.get('model', '')}".strip(), _MOST)


def remark(kind: Kind, its: pb.MetricComparison) -> str:
    """A comparison of one metric in sentences: what it shows, what it can't show, and what that would take."""
    remarks = [] if its.summary else list(_reach(kind, its))
    if its.HasField("noise_floor"):
        remarks.append(f"two halves of the baseline's repetitions differ by {_amount(kind, its.noise_floor)}")
    beside = "; ".join(remarks)
    sentences = [one_line(its.summary, 600), f"{beside[:1].upper()}{beside[1:]}." if beside else ""]
    text = " ".join(filter(None, sentences))
    return text if not text or its.summary.startswith(its.metric) else f"{one_line(its.metric, 80)}: {text}"


def _reach(kind: Kind, its: pb.MetricComparison) -> Iterator[str]:
    if its.HasField("smallest_detectable_difference"):
        least = _amount(kind, its.smallest_detectable_difference)
        yield f"{count(its.pairs, 'item')} show differences from about {least}"
    if its.HasField("items_needed") and its.items_needed > its.pairs:
        yield f"to show one of this size takes about {count(its.items_needed, 'item')}"
    if its.missing:
        yield f"{count(its.missing, 'item')} have a value in one run only"


def bounds(kind: Kind, its: pb.MetricComparison) -> str:
    """The interval of a difference, or nothing."""
    if not (its.HasField("interval_low") and its.HasField("interval_high")):
        return ""
    return interval(kind, its.interval_low, its.interval_high)


def _amount(kind: Kind, value: float) -> str:
    return f"{100 * value:.1f} percentage points" if kind is Kind.SHARE else shown(kind, value)


def _prompt(prompt: Mapping[str, Any]) -> str:
    version = prompt.get("version")
    which = f" version {version}" if version else f" {prompt['label']}" if prompt.get("label") else ""
    return f"{prompt.get('name', '')}{which}"
