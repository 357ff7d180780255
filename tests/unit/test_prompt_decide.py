"""The log decides: one history for each prompt, whatever is asked of it, in whatever order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.prompt_event_pb2 import (
    ChatPrompt,
    PromptArchived,
    PromptLabelRolledBack,
    PromptLabelsMoved,
    PromptVersionCreated,
)
from lodestream_proto.v1.prompts_pb2 import (
    PROMPT_REFUSAL_CONFLICT,
    PROMPT_REFUSAL_NOT_FOUND,
    PROMPT_REFUSAL_OTHER_TYPE,
)

from services.projections.prompts.commands import Payload
from services.projections.prompts.decide import Decision, Held, Move, Prompt, Verdict, decide
from tests.support.records import NOON

LABELS = ["production", "staging", "a"]


def create(*labels: str, text: str = "Hi") -> PromptVersionCreated:
    return PromptVersionCreated(prompt_name="greet", text=text, labels=labels)


def move(version: int, *labels: str, expected: int | None = None) -> PromptLabelsMoved:
    return PromptLabelsMoved(prompt_name="greet", version=version, labels=labels, expected_revision=expected)


def back(label: str, expected: int | None = None) -> PromptLabelRolledBack:
    return PromptLabelRolledBack(prompt_name="greet", label=label, expected_revision=expected)


@dataclass
class History:
    """A prompt and all that was decided about it."""

    prompt: Prompt = field(default_factory=lambda: Prompt("greet"))
    decisions: list[Decision] = field(default_factory=list)

    def ask(self, *payloads: Payload) -> Verdict:
        for payload in payloads:
            decision = decide(self.prompt, payload, NOON + timedelta(seconds=len(self.decisions)))
            self.prompt = decision.prompt
            self.decisions.append(decision)
        return self.decisions[-1].verdict

    def held(self) -> dict[str, int]:
        return {label: held.version for label, held in self.prompt.labels.items() if held.version}


def test_versions_count_and_latest_moves_by_itself() -> None:
    history = History()
    assert history.ask(create("production")) == Verdict(1, 1)
    assert history.held() == {"latest": 1, "production": 1}
    assert history.ask(create()) == Verdict(2, 2)
    assert history.held() == {"latest": 2, "production": 1}
    assert history.decisions[1].moves == (Move("latest", 1, 2),)
    created = history.decisions[1].created
    assert created is not None
    assert (created.version, created.text, list(created.labels), created.revision) == (2, "Hi", [], 0)


def test_labels_move_come_off_and_go_back() -> None:
    history = History()
    history.ask(create("production"), create())
    assert history.ask(move(2, "production", "staging")) == Verdict(2, 3)
    assert history.ask(back("production")) == Verdict(1, 4)
    assert history.ask(back("production")) == Verdict(2, 5), "the move before last was the way back"
    assert history.ask(move(0, "production")) == Verdict(0, 6)
    assert history.held() == {"latest": 2, "staging": 2}
    assert history.ask(back("production")) == Verdict(2, 7), "also what was taken off"
    assert history.ask(back("staging")).refusal == PROMPT_REFUSAL_NOT_FOUND, "nobody held it before"


def test_what_changes_nothing_is_done_and_is_no_revision() -> None:
    history = History()
    history.ask(create("production"))
    assert history.ask(move(1, "production")) == Verdict(1, 1)
    assert history.ask(move(0, "staging")) == Verdict(0, 1)
    assert not history.decisions[-1].changed


def test_refusals_say_why_and_change_nothing() -> None:
    history = History()
    assert history.ask(move(1, "production")).reason == "there is no prompt 'greet'"
    assert history.ask(PromptArchived(prompt_name="greet")).refusal == PROMPT_REFUSAL_NOT_FOUND
    history.ask(create())
    before = history.prompt
    conflict = history.ask(move(1, "production", expected=7))
    assert (conflict.refusal, conflict.revision) == (PROMPT_REFUSAL_CONFLICT, 1)
    assert conflict.reason == "prompt 'greet' is at revision 1, not 7"
    assert history.ask(back("latest", expected=0)).refusal == PROMPT_REFUSAL_CONFLICT
    assert history.ask(move(2, "production")).reason == "prompt 'greet' has no version 2"
    other = PromptVersionCreated(prompt_name="greet", chat=ChatPrompt())
    assert history.ask(other).refusal == PROMPT_REFUSAL_OTHER_TYPE
    assert history.prompt == before


def test_archived_is_hidden_until_a_new_version_comes() -> None:
    history = History()
    history.ask(create("production"), PromptArchived(prompt_name="greet"))
    assert history.prompt.archived
    assert history.prompt.updated_at == NOON + timedelta(seconds=len(history.decisions) - 1)
    assert history.ask(move(1, "staging")).reason == "prompt 'greet' is archived"
    assert history.ask(PromptArchived(prompt_name="greet")).refusal == PROMPT_REFUSAL_NOT_FOUND
    assert history.ask(PromptVersionCreated(prompt_name="greet", chat=ChatPrompt())).refusal
    assert history.ask(create()) == Verdict(2, 3), "numbers go on"
    assert (history.prompt.archived, history.held()) == (False, {"latest": 2, "production": 1})


def test_instants_never_go_back() -> None:
    first = decide(Prompt("greet"), create(), NOON)
    second = decide(first.prompt, create(), NOON - timedelta(hours=1))
    assert second.decided_at == second.prompt.updated_at == NOON
    assert second.prompt.created_at == NOON


payloads: st.SearchStrategy[Any] = st.one_of(
    st.builds(lambda labels: create(*labels), st.lists(st.sampled_from(LABELS), max_size=3)),
    st.builds(
        lambda version, labels, expected: move(version, *labels, expected=expected),
        st.integers(0, 4), st.lists(st.sampled_from(LABELS), min_size=1, max_size=3), st.none() | st.integers(0, 12),
    ),
    st.builds(back, st.sampled_from(LABELS), st.none() | st.integers(0, 12)),
    st.just(PromptArchived(prompt_name="greet")),
    st.just(PromptVersionCreated(prompt_name="greet", chat=ChatPrompt())),
)  # fmt: skip


@given(st.lists(payloads, max_size=40))
def test_the_history_is_linear(asked: Sequence[Payload]) -> None:
    """Revisions without gaps, versions without gaps, one holder of each label at each revision, and every move begins
    where the one before ended.
    """
    history = History()
    holders: dict[str, int] = {}
    previous: dict[str, int] = {}
    revision = versions = 0
    for payload in asked:
        verdict = history.ask(payload)
        decision = history.decisions[-1]
        assert bool(verdict.reason) == bool(verdict.refusal)
        assert not (verdict.refusal and decision.changed)
        assert verdict.revision == history.prompt.revision == revision + decision.changed
        revision += decision.changed
        if decision.created:
            versions += 1
            assert decision.created.version == verdict.version == versions
        for moved in decision.moves:
            assert moved.from_version == holders.get(moved.label, 0) != moved.to_version
            previous[moved.label], holders[moved.label] = moved.from_version, moved.to_version
        assert history.prompt.latest_version == versions
        assert history.prompt.labels == {label: Held(its, previous[label]) for label, its in holders.items()}
        assert all(its <= versions for its in holders.values())
        assert holders.get("latest", 0) == versions
