"""What was said of an item or a run."""

from dataclasses import dataclass

from lodestream._evaluation import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one judge said under one name: an evaluation, or that it failed."""

    name: str
    evaluation: Evaluation | None = None
    error: str = ""
    revision: str = ""
    score_id: str = ""
