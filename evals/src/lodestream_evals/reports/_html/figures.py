"""Which charts a report has: quality first, latency and cost beside it."""

from collections.abc import Iterator

from lodestream_evals.reports._findings import Candidate, Findings
from lodestream_evals.reports._html.charts import categories, differences, distribution, outcomes
from lodestream_evals.reports._html.elements import Html, joined, tag
from lodestream_evals.reports._item_values import item_categories, item_values
from lodestream_evals.reports._metrics import ERRORS, MEASURES
from lodestream_evals.reports._units import Kind
from lodestream_evals.reports._views import ItemView

_MOST_METRICS = 12


def charts_of(found: Findings, candidate: Candidate) -> Html:
    """Of a run beside its baseline."""
    run_id = candidate.run.request.run_id
    items = found.items if run_id == found.run.request.run_id else found.others.get(run_id, ())
    lower = {its.metric for its in candidate.metrics if its.lower_is_better} | MEASURES
    names = [its.metric for its in candidate.metrics if its.metric != ERRORS]
    names.sort(key=lambda name: name in MEASURES)
    return _grid(_compared(found, items, name, lower_is_better=name in lower) for name in names[:_MOST_METRICS])


def own_charts(found: Findings) -> Html:
    """Of one run by itself."""
    names = [metric.name for metric in (*found.metrics, *found.costs)]
    return _grid(_alone(found, name) for name in names[:_MOST_METRICS])


def _compared(found: Findings, items: tuple[ItemView, ...], name: str, *, lower_is_better: bool) -> Iterator[Html]:
    kind = found.kinds.get(name, Kind.NUMBER)
    if kind is Kind.CATEGORY:
        before, after = item_categories(found.baseline_items, name), item_categories(items, name)
        if after:
            yield _figure(name, "how often each was given", categories(before, after))
        return
    old, new = item_values(found.baseline_items, name), item_values(items, name)
    if not new:
        return
    checks = kind is Kind.SHARE and {*old.values(), *new.values()} <= {0.0, 1.0}
    changes = {item_id: new[item_id] - old[item_id] for item_id in new if item_id in old}
    if not checks:
        yield _figure(name, "share of the items by value", distribution(kind, list(old.values()), list(new.values())))
    if changes and checks:
        yield _figure(name, "items by what they were and are", outcomes(old, new))
    elif changes:
        drawn = differences(kind, changes, lower_is_better=lower_is_better)
        yield _figure(name, "each item's difference, the greatest loss first", drawn)


def _alone(found: Findings, name: str) -> Iterator[Html]:
    kind = found.kinds.get(name, Kind.NUMBER)
    if kind is Kind.CATEGORY:
        yield _figure(name, "how often each was given", categories({}, item_categories(found.items, name)))
    elif values := list(item_values(found.items, name).values()):
        if kind is Kind.SHARE and set(values) <= {0.0, 1.0}:
            counts = {"true": sum(value == 1 for value in values), "false": sum(value == 0 for value in values)}
            yield _figure(name, "how many items", categories({}, counts))
        else:
            yield _figure(name, "items by value", distribution(kind, [], values))


def _figure(name: str, what: str, drawing: Html) -> Html:
    return tag("figure", tag("figcaption", tag("b", name), tag("span", f" {what}", class_="muted")), drawing)


def _grid(groups: Iterator[Iterator[Html]]) -> Html:
    """Those that belong together beside each other."""
    drawn = [list(group) for group in groups]
    single = [figure for group in drawn for figure in group if len(group) == 1]
    pairs = [figure for group in drawn for figure in group if len(group) > 1]
    if not (single or pairs):
        return tag("p", "The items are not part of this report, so that there is nothing to draw.", class_="muted")
    return joined(*(tag("div", *figures, class_="grid") for figures in (single, pairs) if figures))
