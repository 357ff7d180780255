"""The pages of the gRPC contract, one for each proto file, from its declarations and comments."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

_PACKAGE = ".lodestream_proto.v1."
# Numbers of the fields of descriptor.proto, which paths of comments are made of.
_FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES = 4, 5, 6
_MESSAGE_FIELDS, _MESSAGE_NESTED, _MESSAGE_ENUMS, _ENUM_VALUES, _SERVICE_METHODS = 2, 3, 4, 2, 2
_SCALARS = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}


def pages(folder: Path) -> dict[str, str]:
    """Return a page of Markdown for each proto file in `folder`, by the file's name without its ending."""
    buf = Path(sys.executable).parent / "buf"
    built = subprocess.run(
        [buf, "build", folder, "--as-file-descriptor-set", "-o", "-"], capture_output=True, check=True
    )
    files = [file for file in FileDescriptorSet.FromString(built.stdout).file if file.package == _PACKAGE.strip(".")]
    homes = {name: Path(file.name).stem for file in files for name in _names(file.message_type, file.enum_type)}
    return {Path(file.name).stem: _Page(file, homes).text() for file in files}


def _names(messages: Sequence[DescriptorProto], enums: Sequence[EnumDescriptorProto], outer: str = "") -> Iterator[str]:
    yield from (outer + enum.name for enum in enums)
    for message in messages:
        yield outer + message.name
        yield from _names(message.nested_type, message.enum_type, f"{outer}{message.name}.")


class _Page:
    def __init__(self, file: FileDescriptorProto, homes: dict[str, str]) -> None:
        self._file = file
        self._homes = homes
        self._comments = {
            tuple(place.path): " ".join(place.leading_comments.split() or place.trailing_comments.split())
            for place in file.source_code_info.location
        }

    def text(self) -> str:
        lines = [f"# {Path(self._file.name).name}\n"]
        for at, service in enumerate(self._file.service):
            path = (_FILE_SERVICES, at)
            lines += [f"## {service.name}\n", self._comment(path), ""]
            for inner, method in enumerate(service.method):
                lines += self._method(service.name, method, (*path, _SERVICE_METHODS, inner))
        for at, message in enumerate(self._file.message_type):
            lines += self._message(message, (_FILE_MESSAGES, at), "")
        for at, enum in enumerate(self._file.enum_type):
            lines += self._enum(enum, (_FILE_ENUMS, at), "")
        return "\n".join(lines)

    def _comment(self, path: tuple[int, ...]) -> str:
        return self._comments.get(path, "").replace("|", "\\|").replace("<", "&lt;")

    def _method(self, service: str, method: MethodDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        takes = ("stream of " if method.client_streaming else "") + self._type(method.input_type)
        gives = ("stream of " if method.server_streaming else "") + self._type(method.output_type)
        yield f"### {service}.{method.name}\n\n{takes} → {gives}\n\n{self._comment(path)}\n"

    def _message(self, message: DescriptorProto, path: tuple[int, ...], outer: str) -> Iterator[str]:
        if message.options.map_entry:
            return
        name = outer + message.name
        yield f"## {name} {{#{name}}}\n\n{self._comment(path)}\n"
        if message.field:
            yield "| Field | Type | |\n|---|---|---|"
        entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
        for at, field in enumerate(message.field):
            yield self._field(message, field, entries, (*path, _MESSAGE_FIELDS, at))
        yield ""
        for at, nested in enumerate(message.nested_type):
            yield from self._message(nested, (*path, _MESSAGE_NESTED, at), f"{name}.")
        for at, enum in enumerate(message.enum_type):
            yield from self._enum(enum, (*path, _MESSAGE_ENUMS, at), f"{name}.")

    def _field(
        self,
        message: DescriptorProto,
        field: FieldDescriptorProto,
        entries: dict[str, DescriptorProto],
        path: tuple[int, ...],
    ) -> str:
        entry = entries.get(field.type_name.rpartition(".")[2])
        if entry is not None:
            kind = f"map of {self._field_type(entry.field[0])} to {self._field_type(entry.field[1])}"
        else:
            kind = self._field_type(field)
            if field.label == FieldDescriptorProto.LABEL_REPEATED:
                kind = f"list of {kind}"
        notes = [self._comment(path)]
        if field.proto3_optional:
            kind += ", optional"
        elif field.HasField("oneof_index"):
            notes.insert(0, f"One of `{message.oneof_decl[field.oneof_index].name}`.")
        return f"| `{field.name}` = {field.number} | {kind} | {' '.join(filter(None, notes))} |"

    def _enum(self, enum: EnumDescriptorProto, path: tuple[int, ...], outer: str) -> Iterator[str]:
        name = outer + enum.name
        yield f"## {name} {{#{name}}}\n\n{self._comment(path)}\n\n| Value | |\n|---|---|"
        for at, value in enumerate(enum.value):
            yield f"| `{value.name}` = {value.number} | {self._comment((*path, _ENUM_VALUES, at))} |"
        yield ""

    def _field_type(self, field: FieldDescriptorProto) -> str:
        return self._type(field.type_name) if field.type_name else _SCALARS[field.type]

    def _type(self, full_name: str) -> str:
        name = full_name.removeprefix(_PACKAGE)
        home = self._homes.get(name)
        if home is None:
            return f"`{full_name.removeprefix('.')}`"
        return f"[{name}]({'' if home == Path(self._file.name).stem else home + '.md'}#{name})"
