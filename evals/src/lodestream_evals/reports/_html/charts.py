"""Charts as inline SVG: distributions of both runs, and what changed item by item."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lodestream_evals.reports._findings import Candidate, Findings
from lodestream_evals.reports._html.elements import Html, joined, tag
from lodestream_evals.reports._metrics import ERRORS, MEASURES, item_categories, item_values
from lodestream_evals.reports._units import Kind, shown, signed
from lodestream_evals.reports._views import ItemView

# --- Scales -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scale:
    """From numbers to pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a number; one that is off the axis lies at its end."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return self.start + max(0.0, min(share, 1.0)) * (self.end - self.start)


def pixels(value: float) -> str:
    """To a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers within, at most so many; both ends where there are none."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span))
    for step in (power / 10, power / 5, power / 4, power / 2, power, 2 * power, 5 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if 2 <= last - first + 1 <= most:
            return [number * step for number in range(first, last + 1)]
    return [low, high]


def rounded_up(value: float) -> float:
    """The next number above that has two digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step - 1e-9) * step


def bins(values: Sequence[float], low: float, high: float, number: int) -> list[int]:
    """How many values lie in each of so many equal parts; what is beyond the ends is in the outer ones."""
    counts = [0] * number
    for value in values:
        share = (value - low) / (high - low) if high > low else 0.0
        counts[max(0, min(int(share * number), number - 1))] += 1
    return counts


def spread(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the greatest, without the hundredth at each end that would flatten the rest."""
    if not values:
        return 0.0, 1.0
    ordered = sorted(values)
    cut = len(ordered) // 100
    low, high = ordered[cut], ordered[-1 - cut]
    return (low, high) if high > low else (low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2)


# --- Charts -----------------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 400, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 8, 24
_FEWEST_BINS, _MOST_BINS = 8, 24
_MOST_STEMS = 240
_LABELS = 84  # pixels left of the stems
_MOST_CATEGORIES = 8


def distribution(kind: Kind, baseline: Sequence[float], run: Sequence[float]) -> Html:
    """How many items have which value: the baseline as an outline over the run's bars."""
    low, high = spread([*baseline, *run])
    across = Scale(low, high, _LEFT, _WIDTH - _RIGHT)
    number = max(_FEWEST_BINS, min(math.isqrt(len(run)) + 1, _MOST_BINS))
    counted = [bins(values, low, high, number) for values in (baseline, run)]
    # Shares of the items: one run may have more of them than the other.
    shares = [[count / max(len(values), 1) for count in counts]
              for counts, values in zip(counted, (baseline, run), strict=True)]  # fmt: skip
    up = Scale(0, max(map(max, shares)) or 1, _HEIGHT - _BOTTOM, _TOP)
    wide = (_WIDTH - _LEFT - _RIGHT) / number
    bars = [
        tag("rect", tag("title", f"{counted[1][at]:,} items"), class_="run", x=pixels(_LEFT + at * wide + 0.5),
            y=pixels(up.at(share)), width=pixels(wide - 1), height=pixels(_HEIGHT - _BOTTOM - up.at(share)))
        for at, share in enumerate(shares[1]) if share
    ]  # fmt: skip
    steps = [f"{pixels(_LEFT + (at + edge) * wide)},{pixels(up.at(share))}"
             for at, share in enumerate(shares[0]) for edge in (0, 1)]  # fmt: skip
    outline = tag("polyline", class_="baseline", points=" ".join(steps)) if baseline else None
    return _picture(f"distribution of {len(run):,} values", *bars, outline, *_axis(kind, across))


def differences(kind: Kind, changes: Mapping[str, float], *, lower_is_better: bool) -> Html:
    """The difference of every item, the greatest loss first; of very many items each hundredth or so."""
    ordered = sorted(changes.items(), key=lambda pair: -pair[1] if lower_is_better else pair[1])
    step = -(-len(ordered) // _MOST_STEMS)
    drawn = ordered if step == 1 else [*ordered[::step], ordered[-1]]
    reach = rounded_up(max(abs(value) for _, value in drawn) or 1.0)
    up = Scale(-reach, reach, _HEIGHT - _TOP, _TOP)
    wide = (_WIDTH - _LABELS - _RIGHT) / len(drawn)
    stems: list[Html] = []
    for at, (item_id, value) in enumerate(drawn):
        x = pixels(_LABELS + (at + 0.5) * wide)
        colour = "same" if value == 0 else "better" if (value < 0) == lower_is_better else "worse"
        parts = [tag("title", f"{item_id}: {signed(kind, value)}")]
        parts.append(tag("line", class_=colour, x1=x, x2=x, y1=pixels(up.at(0)), y2=pixels(up.at(value))))
        parts.append(
            tag("circle", class_=colour, cx=x, cy=pixels(up.at(value)), r=pixels(min(max(wide / 2.6, 1), 3.5)))
        )
        stems.append(tag("g", *parts))
    labels = [
        tag("text", signed(kind, value) if value else "0", class_="tick", x=_LABELS - 6, y=pixels(up.at(value) + 4),
            text_anchor="end")
        for value in (-reach, 0, reach)
    ]  # fmt: skip
    zero = tag("line", class_="zero", x1=_LABELS, x2=_WIDTH - _RIGHT, y1=pixels(up.at(0)), y2=pixels(up.at(0)))
    return _picture(f"differences of {len(changes):,} items", zero, *stems, *labels)


def outcomes(baseline: Mapping[str, float], run: Mapping[str, float]) -> Html:
    """Of a check: what was passed before and is passed now."""
    both = [(baseline[item_id], run[item_id]) for item_id in baseline.keys() & run.keys()]
    parts = [
        ("passed in both", "run", sum(old == new == 1 for old, new in both)),
        ("got worse", "worse", sum(old > new for old, new in both)),
        ("got better", "better", sum(old < new for old, new in both)),
        ("passed in neither", "same", sum(old == new == 0 for old, new in both)),
    ]
    return _bars([(name, colour, count, len(both)) for name, colour, count in parts])


def categories(baseline: Mapping[str, int], run: Mapping[str, int]) -> Html:
    """How often each was given, in both runs."""
    names = sorted({*baseline, *run}, key=lambda name: (-run.get(name, 0) - baseline.get(name, 0), name))
    rows = []
    for name in names[:_MOST_CATEGORIES]:
        rows.append((name, "run", run.get(name, 0), sum(run.values())))
        if baseline:
            rows.append(("", "before", baseline.get(name, 0), sum(baseline.values())))
    return _bars(rows)


def forest(low: float, middle: float, high: float, *, reach: float, colour: str) -> Html:
    """An interval on a line with zero in the centre that goes as far as `reach` to both sides."""
    across = Scale(-reach, reach, 6, 234)
    ends = pixels(across.at(low)), pixels(across.at(high))
    parts = [
        tag("line", class_="zero", x1=120, x2=120, y1=1, y2=27),
        tag("line", class_=f"bound {colour}", x1=ends[0], x2=ends[1], y1=14, y2=14),
        *(tag("line", class_=f"bound {colour}", x1=end, x2=end, y1=9, y2=19) for end in ends),
        tag("circle", class_=colour, cx=pixels(across.at(middle)), cy=14, r=4.5),
    ]
    return tag(
        "svg", *parts, viewBox="0 0 240 28", class_="forest", role="img", aria_label="interval of the difference"
    )


def _bars(rows: Sequence[tuple[str, str, int, int]]) -> Html:
    """Name, colour, count and whole of each; as HTML, so that names wrap on a phone."""
    return tag(
        "div",
        *(
            joined(
                tag("span", name, class_="name"),
                tag(
                    "span",
                    tag("span", class_=f"fill {colour}", style=f"width:{100 * count / max(whole, 1):.1f}%"),
                    class_="bar",
                ),
                tag("span", f"{count:,}", class_="number"),
            )
            for name, colour, count, whole in rows
        ),
        class_="bars",
    )


def _axis(kind: Kind, across: Scale) -> list[Html]:
    line = tag("line", class_="zero", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=_HEIGHT - _BOTTOM, y2=_HEIGHT - _BOTTOM)
    found = [line]
    for value in ticks(across.low, across.high):
        x = across.at(value)
        anchor = "start" if x < 30 else "end" if x > _WIDTH - 30 else "middle"
        found.append(tag("text", shown(kind, value), class_="tick", x=pixels(x), y=_HEIGHT - 7, text_anchor=anchor))
    return found


def _picture(what: str, *parts: Html | None) -> Html:
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", class_="chart", role="img", aria_label=what)


# --- Which charts a report has ----------------------------------------------------------------------------------------

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
