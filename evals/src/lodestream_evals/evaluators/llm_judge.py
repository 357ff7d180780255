"""What a model says of the output by a rubric: a boolean, a number of a scale, or one of some choices, and why.

The output is data to it, and nothing but an object of the form asked for is its verdict (`_judge.py`). Of several votes
the majority counts, or the median.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from lodestream_evals.evaluators._errors import EvaluatorError, EvaluatorSpecError, SettingError
from lodestream_evals.evaluators._evaluator import Case, FindPrompt, Judging, Kind, Message, Tools, Verdict
from lodestream_evals.evaluators._judge import Ballot, Form, Judge, ask, brief, tally, usage
from lodestream_evals.evaluators._spec import MAX_NAME, Spec, checked_line, checked_number, kind_of
from lodestream_evals.prompt import ChatPrompt, TextPrompt

_OURS = {"messages", "model", "stream", "n", "response_format", "tools"}
_MAX_VOTES, _MAX_CHOICES, _MAX_CHOICE = 15, 50, 100


def read(spec: Spec) -> Judging:
    """Settings: `rubric` (a text) or `prompt` ({"name", and "version" or "label"}), `provider`, `model`, `settings`.

    `choices` (a list, or an object with a number each) or `scale` ({"min", "max"}); neither: true or false. `votes`
    asks so often, with a seed each. `max_characters` of each part of the case are shown. `response_format`
    (json_schema, json_object, none) is what the provider is asked to enforce; answers are checked in any case.
    """
    rubric, prompt = spec.text("rubric", None), spec.read("prompt", None, _checked_prompt)
    if rubric is None and prompt is None:
        raise EvaluatorSpecError("rubric", "is missing: a rubric or a prompt")
    if rubric is not None and prompt is not None:
        raise EvaluatorSpecError("rubric", "is given beside a prompt; one of them is enough")
    form, votes = _form(spec), spec.whole("votes", 1, least=1, most=_MAX_VOTES)
    most = spec.whole("max_characters", 20_000, least=100, most=200_000)
    judge_model = _judge(spec, form)

    async def judge(case: Case, tools: Tools) -> Verdict:
        text = await _found(tools, prompt) if prompt else TextPrompt(name="", version=0, prompt=rubric or "")
        prompted = brief(text, case, form.schema, most=most)
        seeds = _seeds(judge_model, votes)
        ballots = await asyncio.gather(*(_vote(judge_model, tools, prompted.messages, form, seed) for seed in seeds))
        failures = [each for each in ballots if each.vote is None]
        if len(failures) * 2 >= votes:
            counted = f"{len(failures)} of {votes} votes failed: " if votes > 1 else ""
            raise EvaluatorError(f"{counted}{failures[0].failure}") from failures[0].cause
        outcome = tally(form, [each.vote or each.failure for each in ballots])
        metadata = {**outcome.metadata, **usage([answer for each in ballots for answer in each.answers])}
        if prompt:
            metadata["prompt"] = {"name": text.name, "version": text.version}
        if prompted.cut:
            metadata["cut"] = dict(prompted.cut)
        return Verdict(outcome.value, outcome.comment, metadata)

    return Judging(judge, form.value_type, tuple(form.choices or ()))


async def with_prompt_version(spec: Mapping[str, Any], find: FindPrompt) -> dict[str, Any]:
    """The spec with the version that its rubric's label points to now, so that its revision says which rubric judges.

    It is one that `evaluator_of` takes. Specs of other kinds, and those with a version, are given back as they are.
    """
    prompt = spec.get("prompt")
    if spec.get("kind") != KIND.name or not isinstance(prompt, Mapping) or prompt.get("version") is not None:
        return dict(spec)
    current = await find(prompt["name"], None, prompt.get("label") or "production")
    return {**spec, "prompt": {"name": prompt["name"], "version": current.version}}


async def _vote(judge: Judge, tools: Tools, messages: Sequence[Message], form: Form, seed: int | None) -> Ballot:
    """One of several votes: that the model can't be asked is a failure of this vote alone."""
    try:
        return await ask(judge, tools, messages, form, seed)
    except EvaluatorError as error:
        return Ballot(failure=str(error), cause=error.__cause__)


def _seeds(judge: Judge, votes: int) -> list[int | None]:
    """One vote is asked for with the seed of the settings, if there is one; several with the ones after it."""
    first = judge.settings.get("seed")
    return [first] if votes == 1 else [(first or 0) + place for place in range(votes)]


async def _found(tools: Tools, prompt: Mapping[str, Any]) -> TextPrompt | ChatPrompt:
    name, version, label = prompt["name"], prompt.get("version"), prompt.get("label")
    try:
        return await tools.prompt(name, version, None if version else label or "production")
    except EvaluatorError:
        raise
    except Exception as error:
        raise EvaluatorError(f"the rubric {name!r} can't be had: {type(error).__name__}: {error!s:.500}") from error


def _judge(spec: Spec, form: Form) -> Judge:
    settings = spec.read("settings", {}, _checked_settings)
    enforced = spec.one_of("response_format", ("json_schema", "json_object", "none"), "json_schema")
    response_format: dict[str, Any] = {}
    if enforced == "json_object":
        response_format = {"response_format": {"type": "json_object"}}
    elif enforced == "json_schema":
        schema = {"name": "verdict", "strict": True, "schema": form.schema}
        response_format = {"response_format": {"type": "json_schema", "json_schema": schema}}
    return Judge(
        provider=spec.text("provider", most=MAX_NAME),
        model=spec.text("model", most=MAX_NAME),
        settings={**settings, **response_format},
    )


def _form(spec: Spec) -> Form:
    choices, scale = spec.read("choices", None, _checked_choices), spec.read("scale", None, _checked_scale)
    if choices is not None and scale is not None:
        raise EvaluatorSpecError("scale", "is given beside choices; one of them is enough")
    if isinstance(choices, dict):  # their order is nothing, so it is made one: the lowest first
        return Form("CATEGORICAL", choices=dict(sorted(choices.items(), key=lambda item: (item[1], item[0]))))
    if choices is not None:
        return Form("CATEGORICAL", choices=dict.fromkeys(choices))
    return Form("BOOLEAN") if scale is None else Form("NUMERIC", least=scale["min"], most=scale["max"])


def _checked_prompt(value: Any) -> dict[str, Any]:
    prompt = Spec(value)
    prompt.text("name", most=MAX_NAME)
    version, label = prompt.whole("version", None, least=1), prompt.text("label", None, most=MAX_NAME)
    if version is not None and label is not None:
        raise EvaluatorSpecError("label", "is given beside a version; one of them is enough")
    prompt.done()
    return prompt.settings


def _checked_scale(value: Any) -> dict[str, Any]:
    scale = Spec(value)
    least, most = scale.number("min"), scale.number("max")
    if least >= most:
        raise EvaluatorSpecError("min", f"{least:g} is not below max, {most:g}")
    scale.done()
    return scale.settings


def _checked_choices(value: Any) -> Any:
    if not isinstance(value, list | dict):
        raise SettingError(f"is a list or an object with a number each, not {kind_of(value)}")
    if not 2 <= len(value) <= _MAX_CHOICES:
        raise SettingError(f"are 2 to {_MAX_CHOICES}, not {len(value)}")
    lines = [checked_line(choice, _MAX_CHOICE) for choice in value]
    if len(set(lines)) < len(lines):
        raise SettingError("are not all different")
    return {line: checked_number(value[line]) for line in lines} if isinstance(value, dict) else lines


def _checked_settings(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingError(f"is an object, not {kind_of(value)}")
    if taken := _OURS & value.keys():
        raise SettingError(f"can't have {', '.join(sorted(taken))}")
    seed = value.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise EvaluatorSpecError("seed", f"is a whole number, not {kind_of(seed)}")
    return value


KIND = Kind("llm_judge", 1, read)
