"""Items go to workers that offer their providers, and a run whose provider none offers ends with the reason."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from lodestream_proto.v1.experiment_event_pb2 import EXPERIMENT_OUTCOME_COMPLETED, EXPERIMENT_OUTCOME_FAILED

from tests.support.evaluating import Workplace, working
from tests.support.experiment_runs import append_events, ended, furnish, requested
from tests.support.polling import until

GRACE = "LODESTREAM_EVALUATOR_PROVIDER_GRACE_SECONDS"
PLANNED = "SELECT planned AND state = 1 AND outcome = 0 FROM evaluator.runs WHERE project_id = $1"


@pytest.fixture
async def place(ground, servers, template, tmp_path) -> AsyncIterator[Workplace]:
    async with working(ground, servers, template, tmp_path) as workplace:
        yield workplace


def providers(folder: Path, text: str) -> str:
    path = folder / f"{uuid4().hex[:8]}.json"
    path.write_text(text)
    return str(path)


async def test_a_run_whose_provider_no_worker_offers_any_more_ends_with_the_reason(place, tmp_path) -> None:
    """It waits for the time of grace; who has the provider and comes back in it, runs it."""
    project = f"p{uuid4().hex[:10]}"
    await furnish(place.dsn, project, 2)
    judge = {"kind": "llm_judge", "name": "kind", "rubric": "Is it?", "provider": "mock", "model": "mock-large"}
    gone = requested("gone", project=project, provider="nowhere")
    back = requested("back", project=project, provider="here", evaluators=[judge])
    only_here = providers(tmp_path, f'{{"here": {{"kind": "openai", "base_url": "http://{place.model.address}/v1"}}}}')
    await place.worker(LODESTREAM_PROVIDERS=only_here, **{GRACE: "600"})
    await append_events(place.servers.kafka, back)
    await until(lambda: place.value(PLANNED, project), what="the run to be planned by who lacks the judge's provider")
    await place.worker(**{GRACE: "2"})
    published = await ended(place.log, project, "back")
    assert published.endings["back"][0].outcome == EXPERIMENT_OUTCOME_COMPLETED
    assert {each.WhichOneof("value") for result in published.of("back") for each in result.evaluations} == {"boolean"}
    await append_events(place.servers.kafka, gone)
    published = await ended(place.log, project, "gone")
    (ending,) = published.endings["gone"]
    assert (ending.outcome, ending.reason) == (
        EXPERIMENT_OUTCOME_FAILED,
        "task_json.provider: no worker has offered the provider 'nowhere' for 2 s; there are here, mock",
    )
    assert not published.of("gone")
