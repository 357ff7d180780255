"""The client: observations by hand, ids, sampling, masking, environment and release."""

import datetime as dt
import json
from typing import Any

import pytest
from lodestream import Lodestream, TraceContext, get_client, observe
from lodestream.testing import captured


def test_observations_nest_by_block_and_by_hand():
    with captured() as told:
        client = get_client()
        with client.start_as_current_observation(name="agent", as_type="agent", input="q") as agent:
            tool = agent.start_observation(name="tool", as_type="tool")
            with tool.start_as_current_observation(name="inside"):
                client.start_observation(name="leaf").end()
            tool.update(output=[1]).end()
    parents = {span.name: span.parent_id for span in told.spans}
    ids = {span.name: span.id for span in told.spans}
    assert parents == {"agent": "", "tool": ids["agent"], "inside": ids["tool"], "leaf": ids["inside"]}
    assert len({span.trace_id for span in told.spans}) == 1


def test_everything_that_can_be_told_is_on_the_wire():
    began = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
    with captured() as told:
        get_client().start_observation(
            name="ask",
            as_type="generation",
            input=[{"role": "user", "content": "hi"}],
            output="hello",
            metadata={"tries": 2, "text": "2"},
            version="v7",
            level="WARNING",
            status_message="slow",
            completion_start_time=began,
            model="gpt-5",
            model_parameters={"temperature": 0.2},
            usage_details={"input": 10, "output": 2},
            cost_details={"input": 0.001},
            prompt={"name": "support", "version": 8},
        ).end()
    told_ = told.named("ask").attributes
    assert told_ == {
        "lodestream.observation.type": "generation",
        "lodestream.observation.input": '[{"role":"user","content":"hi"}]',
        "lodestream.observation.output": "hello",
        "lodestream.observation.metadata.tries": "2",
        "lodestream.observation.metadata.text": '"2"',
        "lodestream.version": "v7",
        "lodestream.observation.level": "WARNING",
        "lodestream.observation.status_message": "slow",
        "lodestream.observation.completion_start_time": began.astimezone().isoformat(),
        "lodestream.observation.model.name": "gpt-5",
        "lodestream.observation.model.parameters": '{"temperature":0.2}',
        "lodestream.observation.usage_details": '{"input":10,"output":2}',
        "lodestream.observation.cost_details": '{"input":0.001}',
        "lodestream.observation.prompt.name": "support",
        "lodestream.observation.prompt.version": 8,
    }


def test_what_makes_no_sense_is_told_and_left_out(caplog):
    odd: dict[str, Any] = {
        "as_type": "robot",
        "level": "LOUD",
        "completion_start_time": "now",
        "prompt": "none",
        "colour": "red",
    }
    with captured() as told:
        get_client().start_observation(name="odd", **odd).end()
    assert set(told.named("odd").attributes) == {"lodestream.observation.type"}
    assert told.named("odd").type == "span"
    for word in ("robot", "LOUD", "completion_start_time", "prompt", "colour"):
        assert word in caplog.text


def test_nothing_is_told_after_the_end():
    with captured() as told:
        observation = get_client().start_observation(name="once")
        observation.end()
        observation.update(output="late").end()
        observation.set_attribute("late", 1)
    assert told.named("once").attributes == {"lodestream.observation.type": "span"}


def test_an_event_takes_no_time():
    with captured() as told:
        get_client().create_event(name="clicked", input={"button": 1})
    span = told.named("clicked")
    assert span.otlp.start_time_unix_nano == span.otlp.end_time_unix_nano > 0
    assert span.type == "event"


def test_a_block_can_leave_the_end_to_somebody_else():
    with captured() as told:
        with get_client().start_as_current_observation(name="open", end_on_exit=False) as observation:
            pass
        assert told.spans == []
        observation.end()
    assert told.named("open")


def test_a_trace_can_be_continued():
    with captured() as told:
        context: TraceContext = {"trace_id": "12" * 16, "parent_span_id": "34" * 8}
        get_client().start_observation(name="below", trace_context=context).end()
        get_client().start_observation(name="root", trace_context={"trace_id": "12" * 16}).end()
    below, root = told.named("below"), told.named("root")
    assert (below.trace_id, below.parent_id) == ("12" * 16, "34" * 8)
    assert (root.trace_id, root.parent_id) == ("12" * 16, "")
    assert below.attributes["lodestream.internal.as_root"] is True


def test_the_same_seed_gives_the_same_trace_id():
    same = {Lodestream.create_trace_id(seed="order 1042") for _ in range(3)}
    assert len(same) == 1
    assert len({Lodestream.create_trace_id() for _ in range(100)}) == 100
    (trace_id,) = same
    assert len(trace_id) == 32
    assert int(trace_id, 16)


def test_ids_of_what_is_current():
    with captured():
        client = get_client()
        assert (client.get_current_trace_id(), client.get_current_observation_id()) == (None, None)
        with client.start_as_current_observation(name="x") as observation:
            assert client.get_current_trace_id() == observation.trace_id
            assert client.get_current_observation_id() == observation.id


# --- Sampling ---------------------------------------------------------------------------------------------------------


def test_a_share_of_traces_is_kept_whole():
    with captured(sample_rate=0.3) as told:
        for _ in range(2_000):
            with get_client().start_as_current_observation(name="root"):
                get_client().start_observation(name="child").end()
    roots = {span.trace_id for span in told.spans if span.name == "root"}
    children = {span.trace_id for span in told.spans if span.name == "child"}
    assert roots == children
    assert 450 < len(roots) < 750


def test_services_agree_on_what_is_sampled():
    """By the id's last bytes, as OpenTelemetry's TraceIdRatioBased."""
    with captured(sample_rate=0.5) as told:
        for low in ("0" * 16, "7" + "f" * 15, "8" + "0" * 15, "f" * 16):
            get_client().start_observation(name=low, trace_context={"trace_id": "1" * 16 + low}).end()
    assert [span.name for span in told.spans] == ["0" * 16, "7" + "f" * 15]


# --- Masking ----------------------------------------------------------------------------------------------------------


def mask(*, data):
    return json.loads(json.dumps(data).replace("4111", "****"))


def test_content_is_masked_before_it_goes_anywhere():
    with captured(mask=mask) as told:
        observation = get_client().start_observation(
            name="pay", input={"card": "4111"}, metadata={"card": "4111"}, status_message="4111"
        )
        observation.set_attribute("card", "4111")
        observation.set_attribute("cards", ["4111"])
        observation.add_event("paid", {"card": "4111"})
        observation.record_exception(ValueError("4111"))
        observation.update(output="4111").end()
    assert "4111" not in str(told.named("pay").otlp)
    assert told.named("pay").input == {"card": "****"}


def test_an_exception_that_leaves_is_masked_too():
    @observe
    def pay():
        raise ValueError("card 4111")

    with captured(mask=mask) as told, pytest.raises(ValueError, match="4111"):
        pay()
    assert "card ****" in str(told.named("pay").otlp)
    assert "card 4111" not in str(told.named("pay").otlp)


def test_when_the_mask_fails_nothing_gets_out(caplog):
    def broken(*, data):
        raise RuntimeError("4111")

    with captured(mask=broken) as told:
        get_client().start_observation(name="pay", input="4111").end()
    assert told.named("pay").input == "<masking failed>"
    assert "4111" not in caplog.text


# --- The client itself ------------------------------------------------------------------------------------------------


def test_settings_that_make_no_sense_do_not_stop_the_program(caplog):
    with captured():
        odd: dict[str, Any] = {"sample_rate": 7, "endpoint": "no port at all:x", "flush_interval": "soon"}
        client = Lodestream(secret_key="k", **odd)
    assert client.settings.sample_rate == 1.0
    for name in ("sample_rate", "endpoint", "flush_interval"):
        assert name in caplog.text


def test_secrets_are_not_in_a_representation():
    with captured():
        assert "sk-secret" not in repr(Lodestream(secret_key="sk-secret").settings)
