"""Asks a judge for one vote: a wrong answer is told of and asked for once more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lodestream_evals.evaluators._case import Answer, Message, Tools
from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._judge_forms import Form, Vote, WrongAnswerError

_TRIES = 2
_MAX_ANSWER = 20_000  # characters of a wrong answer that are shown to the judge again


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Whom to ask, and how."""

    provider: str
    model: str
    settings: Mapping[str, Any]


@dataclass(slots=True)
class Asked:
    """What came of asking."""

    vote: Vote | None = None
    failure: str = ""
    """Why there is no vote."""
    cause: BaseException | None = None
    answers: list[Answer] = field(default_factory=list)
    """All that were given, the wrong ones too: they cost."""


async def ask(judge: Judge, tools: Tools, messages: Sequence[Message], form: Form, seed: int | None) -> Asked:
    """One vote. Raises EvaluatorError when the model could not be asked."""
    settings = dict(judge.settings) if seed is None else {**judge.settings, "seed": seed}
    asked, told = Asked(), list(messages)
    for _ in range(_TRIES):
        answer = await _answer(judge, tools, told, settings)
        asked.answers.append(answer)
        try:
            asked.vote = form.vote(answer.text)
        except WrongAnswerError as wrong:
            asked.failure = f"the judge {judge.model} gave no verdict, asked {len(asked.answers)} times: {wrong}"
            again = f"Your answer can't be taken: {wrong}. Answer again, with nothing but the JSON object."
            told += [{"role": "assistant", "content": answer.text[:_MAX_ANSWER]}, {"role": "user", "content": again}]
        else:
            return asked
    return asked


async def _answer(judge: Judge, tools: Tools, messages: Sequence[Message], settings: Mapping[str, Any]) -> Answer:
    try:
        answer = await tools.ask(messages, provider=judge.provider, model=judge.model, settings=settings)
    except EvaluatorError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error!s:.500}"
        raise EvaluatorError(f"the judge {judge.model} of {judge.provider} could not be asked: {told}") from error
    if not isinstance(answer, Answer) or not isinstance(answer.text, str):
        raise EvaluatorError(f"the tool `ask` gave no Answer with a text, but {answer!r:.200}")
    return answer


def usage(answers: Sequence[Answer]) -> dict[str, int | float]:
    """The tokens and the cost of all answers, as far as they are known."""
    known: dict[str, list[int | None] | list[float | None]] = {
        "judge_input_tokens": [answer.input_tokens for answer in answers],
        "judge_output_tokens": [answer.output_tokens for answer in answers],
        "judge_cost_usd": [answer.cost_usd for answer in answers],
    }
    told = {name: [one for one in each if one is not None] for name, each in known.items()}
    return {name: sum(each) for name, each in told.items() if each}
