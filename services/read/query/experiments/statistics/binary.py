"""Items that are wholly true or wholly false in both runs: McNemar's test of those that changed."""

from statsmodels.stats.contingency_tables import mcnemar

from services.read.query.experiments.statistics.finding import Finding, Rules
from services.read.query.experiments.statistics.melded import melded_interval
from services.read.query.experiments.statistics.power import items_for_proportions, smallest_of_proportions


def compare_proportions(became_true: int, became_false: int, pairs: int, rules: Rules) -> Finding:
    """The difference of two paired proportions. Exact: nothing is drawn and nothing approximated."""
    discordant = became_true + became_false
    difference = (became_true - became_false) / pairs
    found = mcnemar([[0, became_true], [became_false, pairs - discordant]], exact=True)
    return Finding(
        "McNemar, exact",
        float(found.pvalue) if discordant else 1.0,
        difference,
        melded_interval(became_true, became_false, pairs, rules.confidence),
        "odds ratio of the discordant pairs",
        became_true / became_false if became_true and became_false else None,
        smallest_of_proportions(discordant, pairs, rules),
        items_for_proportions(difference, discordant / pairs, rules),
        informative=bool(discordant),
    )
