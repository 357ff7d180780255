"""`lodestream prompts create|label|rollback|archive`: commands, each answered with the log's verdict."""

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from lodestream_proto.v1 import prompt_event_pb2 as events
from lodestream_proto.v1 import prompts_pb2 as pb
from rich.text import Text

from services.edge.cli import options, screen
from services.edge.cli.connection import Gateway
from services.edge.cli.failures import ExitCode, Failure
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson
from services.edge.cli.render.text import inert

Author = Annotated[str, typer.Option(envvar="LODESTREAM_AUTHOR", metavar="NAME", help="Who is said to have done it.")]
Expected = Annotated[
    int | None, typer.Option("--expect-revision", min=0, metavar="N", help="Only if the prompt is still at this one.")
]
Name = Annotated[str, typer.Argument(metavar="NAME")]


@takes(gateway=options.gateway)
def create_prompt(
    *,
    gateway: Gateway,
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The content; `-` is standard input.")],
    chat: Annotated[
        bool, typer.Option("--chat", help="The file is a JSON array of messages and placeholders.")
    ] = False,
    label: Annotated[
        list[str] | None, typer.Option(help="That points to the new version. Several: all of them.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="To find it by. Several: all of them.")] = None,
    config: Annotated[str, typer.Option(metavar="JSON", help="What travels with it; @FILE reads a file.")] = "",
    message: Annotated[str, typer.Option("-m", "--message", help="What is new in it.")] = "",
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Create a version of a prompt; the first one creates the prompt.

    \b
    Examples:
      lodestream prompts create support-answer prompt.txt -m "shorter" --label staging
      lodestream prompts create support-chat messages.json --chat --config '{"model": "gpt-5"}' --label production
      echo "Answer: {{question}}" | lodestream prompts create support-answer -
    """  # noqa: D301
    created = events.PromptVersionCreated(
        prompt_name=name, labels=label, tags=tag, commit_message=message, author=author or _user(),
        config_json=json.dumps(_json(_read(config[1:]) if config.startswith("@") else config, "--config"))
        if config else "",
    )  # fmt: skip
    content = _read(file)
    if chat:
        created.chat.items.extend(_items(_json(content, file)))
    else:
        created.text = content.removesuffix("\n")
    request = pb.CreatePromptRequest(command_id=_command_id(), prompt=created)
    made = gateway.ask(gateway.prompts.CreatePrompt, request)
    done = {"name": name, "version": made.version, "revision": made.revision, "position": made.position}
    _tell(done, f"created {inert(name)} version {made.version}", as_json=as_json)


@takes(gateway=options.gateway)
def move_labels(
    *,
    gateway: Gateway,
    name: Name,
    version: Annotated[int, typer.Argument(min=0, metavar="VERSION", help="0 takes the labels off.")],
    labels: Annotated[list[str], typer.Argument(metavar="LABEL...")],
    expected: Expected = None,
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Let labels point to a version. Running programs that watch the prompt have it within milliseconds.

    \b
    Examples:
      lodestream prompts label support-answer 8 production
      lodestream prompts label support-answer 8 production --expect-revision 12
      lodestream prompts label support-answer 0 staging      # takes it off
    """  # noqa: D301
    move = events.PromptLabelsMoved(
        prompt_name=name, version=version, labels=labels, expected_revision=expected, author=author or _user()
    )
    moved = gateway.ask(gateway.prompts.MoveLabels, pb.MoveLabelsRequest(command_id=_command_id(), move=move))
    done = {"name": name, "version": version, "labels": labels, "revision": moved.revision, "position": moved.position}
    where = f"now at {inert(name)} version {version}" if version else f"taken off {inert(name)}"
    _tell(done, f"{inert(', '.join(labels))}: {where} (revision {moved.revision})", as_json=as_json)


@takes(gateway=options.gateway)
def roll_back(
    *,
    gateway: Gateway,
    name: Name,
    label: Annotated[str, typer.Option(help="The label to move back.")] = "production",
    expected: Expected = None,
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Let a label point again to the version that had it before its last move.

    \b
    Examples:
      lodestream prompts rollback support-answer
      lodestream prompts rollback support-answer --label staging
    """  # noqa: D301
    back = events.PromptLabelRolledBack(
        prompt_name=name, label=label, expected_revision=expected, author=author or _user()
    )
    request = pb.RollBackLabelRequest(command_id=_command_id(), roll_back=back)
    moved = gateway.ask(gateway.prompts.RollBackLabel, request)
    done = {"name": name, "label": label, "version": moved.version, "revision": moved.revision}
    said = f"{inert(label)} points to {inert(name)} version {moved.version} again (revision {moved.revision})"
    _tell({**done, "position": moved.position}, said, as_json=as_json)


@takes(gateway=options.gateway)
def archive_prompt(*, gateway: Gateway, name: Name, author: Author = "", as_json: AsJson = False) -> None:
    """Withdraw a prompt from use: programs find it no more, its history stays. A new version brings it back.

    \b
    Examples:
      lodestream prompts archive support-answer
    """  # noqa: D301
    archive = events.PromptArchived(prompt_name=name, author=author or _user())
    request = pb.ArchivePromptRequest(command_id=_command_id(), archive=archive)
    done = gateway.ask(gateway.prompts.ArchivePrompt, request)
    told = {"name": name, "revision": done.revision, "position": done.position}
    _tell(told, f"archived {inert(name)} (revision {done.revision})", as_json=as_json)


def _tell(done: dict[str, Any], said: str, *, as_json: bool) -> None:
    if as_json:
        screen.show_json(done)
    else:
        screen.show([Text(said)])


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", ExitCode.USAGE) from None
    except UnicodeDecodeError:
        raise Failure(f"{file}: is not text in UTF-8", ExitCode.USAGE) from None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failure(f"{where}: is not JSON: {error}", ExitCode.USAGE) from None


def _items(messages: Any) -> list[events.ChatPromptItem]:
    if not isinstance(messages, list):
        raise Failure("a chat prompt is a JSON array of messages and placeholders", ExitCode.USAGE)
    return [_item(index, message) for index, message in enumerate(messages)]


def _item(index: int, message: Any) -> events.ChatPromptItem:
    match message:
        case {"type": "placeholder", "name": str(name)}:
            return events.ChatPromptItem(placeholder=name)
        case {"role": str(role), "content": str(content)}:
            return events.ChatPromptItem(message=events.ChatMessage(role=role, content=content))
    expected = '{"role": …, "content": …} or {"type": "placeholder", "name": …}'
    raise Failure(f"item {index} of the messages is not {expected}", ExitCode.USAGE)


def _command_id() -> str:
    return str(uuid.uuid4())


def _user() -> str:
    return os.environ.get("USER", "")
