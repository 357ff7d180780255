"""The noise floor: how far a run differs from itself."""

from services.read.query.experiments.statistics.pairing import Kind, Values, mean, most_frequent


def noise_floor(values: Values) -> float | None:
    """The mean absolute difference between the halves of each item's repetitions; of categories the share that differs.

    None when no item has two. Every other repetition is a half, so that a drift in time is in both.
    """
    if values.kind is Kind.CATEGORY:
        apart = [
            float(most_frequent(told[::2]) != most_frequent(told[1::2]))
            for _, told in sorted(values.labels.items())
            if len(told) > 1
        ]
    else:
        apart = [abs(mean(told[::2]) - mean(told[1::2])) for _, told in sorted(values.numbers.items()) if len(told) > 1]
    return mean(apart) if apart else None
