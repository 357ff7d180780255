"""The projections, in one table: a topic, a schema, a consumer group, a process and its settings follow from an entry.

The package of a projection is `services.projections.<name>`; its migrations are in `migrations/<name>`.
"""

from dataclasses import dataclass

from shared.event_log.topics import EXPERIMENTS, PROMPTS, SCORES, TRACES
from shared.runtime.settings import projection_group


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionSpec:
    """What a process that folds a topic is called, and what it reads."""

    name: str
    """Names it in positions, dead letters and metrics; also the schema of its tables."""
    topic: str
    summary: str
    """One sentence that says what becomes of the records, for the AsyncAPI document."""
    max_records: int = 256
    """The most records of one batch; more where a record holds little, so that a transaction is worth its while."""
    title: str = ""
    """Of the AsyncAPI document; by default "Lodestream <name> projection"."""
    description: str = ""
    """Of the AsyncAPI document: what it does with the topic; by default it keeps the read model."""

    @property
    def module(self) -> str:
        """The package to run with `python -m`."""
        return f"services.projections.{self.name}"

    @property
    def group(self) -> str:
        """The consumer group: processes of one share the partitions; each group has a database of its own."""
        return projection_group(self.name)


PROJECTIONS = (
    ProjectionSpec(name="traces", topic=TRACES, summary="Spans become rows of the traces read model, each once."),
    ProjectionSpec(
        name="scores",
        topic=SCORES,
        summary="Scores and their configs become rows of the scores read model, each once.",
        max_records=2_048,
    ),
    ProjectionSpec(
        name="prompts", topic=PROMPTS, summary="Commands get their verdicts, in the order of the log, each once."
    ),
    ProjectionSpec(
        name="experiments",
        topic=EXPERIMENTS,
        summary="Datasets change and runs go on, in the order of the log, each event once.",
        max_records=2_048,
    ),
)
TRACES_PROJECTION, SCORES_PROJECTION, PROMPTS_PROJECTION, EXPERIMENTS_PROJECTION = PROJECTIONS
