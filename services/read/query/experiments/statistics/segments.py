"""Segments: the same metrics over the items that share a value of their metadata."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lodestream_proto.v1.experiments_pb2 import SegmentComparison

from services.read.query.experiments.statistics.comparison import Compared
from services.read.query.experiments.statistics.pairing import mean

MOST_BY_ITSELF, MOST_ASKED = 20, 1_000
"""Values of a key, to look at the items by it unasked, and when asked."""
Metadata = Mapping[str, Mapping[str, str]]
"""By item, by key."""


def keys_to_look_by(metadata: Metadata, asked: Sequence[str]) -> tuple[list[str], list[str]]:
    """The keys, and for those that were asked for in vain: why."""
    values: dict[str, set[str]] = defaultdict(set)
    for its in metadata.values():
        for key, value in its.items():
            values[key].add(value)
    if not asked:
        return sorted(key for key, known in values.items() if len(known) <= MOST_BY_ITSELF), []
    unknown = [
        f"no item has {key!r} in its metadata, so there are no segments by it" for key in asked if key not in values
    ]
    many = [
        f"the metadata's {key!r} has {len(values[key]):,} values; segments are of at most {MOST_ASKED:,}"
        for key in asked
        if len(values[key]) > MOST_ASKED
    ]
    return [key for key in dict.fromkeys(asked) if 0 < len(values[key]) <= MOST_ASKED], unknown + many


def segments(compared: Iterable[Compared], metadata: Metadata, keys: Sequence[str]) -> Iterator[SegmentComparison]:
    """By comparison, key and value. Means only: a test of each would show differences by chance."""
    for each in compared:
        if not each.pairs.baseline:
            continue
        for key in keys:
            places: dict[str, list[int]] = defaultdict(list)
            for place, item in enumerate(each.pairs.items):
                if (value := metadata.get(item, {}).get(key)) is not None:
                    places[value].append(place)
            for value, its in sorted(places.items()):
                yield SegmentComparison(
                    run_id=each.said.run_id,
                    metric=each.said.metric,
                    key=key,
                    value=value,
                    pairs=len(its),
                    baseline_mean=mean(each.pairs.baseline[place] for place in its),
                    run_mean=mean(each.pairs.run[place] for place in its),
                )
