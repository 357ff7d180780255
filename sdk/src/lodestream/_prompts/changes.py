"""Changes of prompts: commands, each with an id that is the same on every attempt, so that its verdict is too."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from lodestream_evals.prompt import Prompt
from lodestream_proto.v1 import prompt_event_pb2 as events
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.query_pb2 import WaitFor

from lodestream._delivery.channel import CONFLICT, FailureKind, RpcChannel, RpcError, call_with_retries
from lodestream._prompts.errors import PromptError, PromptNotFoundError, PromptRefusedError, PromptUnavailableError
from lodestream._prompts.messages import creation_message, prompt_from, selector_of
from lodestream._settings import author

_RETRIES, _SECONDS = 3, 10.0


def create(
    channel: RpcChannel,
    name: str,
    prompt: str | Sequence[Mapping[str, Any]],
    *,
    labels: Sequence[str],
    tags: Sequence[str],
    config: Any,
    commit_message: str,
) -> Prompt:
    """The new version, once the server has decided it.

    Raises PromptError.
    """
    try:
        created = creation_message(
            name, prompt, labels=labels, tags=tags, config=config, commit_message=commit_message, author=author()
        )
    except (ValueError, TypeError) as error:
        raise PromptRefusedError(str(error)) from None
    request = pb.CreatePromptRequest(command_id=_command_id(), prompt=created)
    answer = pb.CreatePromptResponse.FromString(_command(channel, "CreatePrompt", request))
    return _read_back(channel, name, answer.version, answer.position)


def move_labels(
    channel: RpcChannel, name: str, version: int, labels: Sequence[str], *, expected_revision: int | None
) -> Prompt:
    """The version that the labels point to now.

    Raises PromptError.
    """
    move = events.PromptLabelsMoved(
        prompt_name=name, version=version, labels=labels, expected_revision=expected_revision, author=author()
    )
    request = pb.MoveLabelsRequest(command_id=_command_id(), move=move)
    answer = pb.MoveLabelsResponse.FromString(_command(channel, "MoveLabels", request))
    return _read_back(channel, name, version, answer.position)


def roll_back(channel: RpcChannel, name: str, label: str) -> Prompt:
    """The version that the label points to again.

    Raises PromptError.
    """
    back = events.PromptLabelRolledBack(prompt_name=name, label=label, author=author())
    request = pb.RollBackLabelRequest(command_id=_command_id(), roll_back=back)
    answer = pb.RollBackLabelResponse.FromString(_command(channel, "RollBackLabel", request))
    return _read_back(channel, name, answer.version, answer.position)


def _read_back(channel: RpcChannel, name: str, version: int, position: str) -> Prompt:
    request = pb.GetPromptRequest(prompt=selector_of((name, version)), wait_for=WaitFor(position=position))
    return prompt_from(pb.GetPromptResponse.FromString(_command(channel, "GetPrompt", request)).prompt)


def _command(channel: RpcChannel, method: str, request: Message) -> bytes:
    try:
        return call_with_retries(channel, f"PromptService/{method}", request, retries=_RETRIES, timeout=_SECONDS)
    except RpcError as error:
        raise _refusal(error) from None


def _refusal(error: RpcError) -> PromptError:
    if error.status == "NOT_FOUND":
        return PromptNotFoundError(error.details)
    if error.status == CONFLICT or error.kind is FailureKind.PERMANENT:
        return PromptRefusedError(error.details)
    return PromptUnavailableError(str(error))


def _command_id() -> str:
    return str(uuid.uuid4())
