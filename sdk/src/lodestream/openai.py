"""OpenAI's clients, whose calls become observations; nothing else about them is different.

from lodestream.openai import OpenAI

OpenAI().chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "How long?"}])

Needs openai 2 or newer: `pip install lodestream[openai]`.
"""

from functools import cached_property, wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any

try:
    import openai as _openai
except ImportError as error:
    raise ImportError("lodestream.openai needs openai: pip install 'lodestream[openai]'") from error

from lodestream._integrations.openai_calls import accept_arguments, observed_async_post, observed_post

__all__ = ["AsyncAzureOpenAI", "AsyncOpenAI", "AzureOpenAI", "OpenAI", "openai"]


if TYPE_CHECKING:  # the methods' types are those of the library

    class _Observed: ...

    class _AsyncObserved: ...

else:

    class _Accepting:
        """Has the resources of a client take our keyword arguments."""

        @cached_property
        def chat(self) -> Any:
            chat = super().chat
            accept_arguments(chat.completions, "create", "parse", "stream")
            return chat

        @cached_property
        def responses(self) -> Any:
            responses = super().responses
            accept_arguments(responses, "create", "parse", "stream")
            return responses

        @cached_property
        def completions(self) -> Any:
            completions = super().completions
            accept_arguments(completions, "create")
            return completions

        @cached_property
        def embeddings(self) -> Any:
            embeddings = super().embeddings
            accept_arguments(embeddings, "create")
            return embeddings

        @cached_property
        def images(self) -> Any:
            images = super().images
            accept_arguments(images, "generate", "edit", "create_variation")
            return images

    class _Observed(_Accepting):
        @cached_property
        def post(self) -> Any:
            return observed_post(super().post)

    class _AsyncObserved(_Accepting):
        @cached_property
        def post(self) -> Any:
            return observed_async_post(super().post)


class OpenAI(_Observed, _openai.OpenAI):
    """OpenAI's client; its chats, responses, completions, embeddings and pictures become observations.

    It takes the arguments of `openai.OpenAI`, is one, and answers and raises as it does. Its methods take more keyword
    arguments, which the API does not see: `name` of the observation, `lodestream_prompt` that it is linked to,
    `lodestream_metadata`, `lodestream_trace_id` with `lodestream_parent_observation_id`, and `lodestream_public_key` of
    the project in programs with several. In the API's `metadata`, `lodestream_user_id`, `lodestream_session_id`,
    `lodestream_tags` and `lodestream_trace_name` are for the observation too, and not sent.
    """


class AsyncOpenAI(_AsyncObserved, _openai.AsyncOpenAI):
    """OpenAI's asynchronous client, observed like `OpenAI`."""


class AzureOpenAI(_Observed, _openai.AzureOpenAI):
    """OpenAI's client for Azure, observed like `OpenAI`."""


class AsyncAzureOpenAI(_AsyncObserved, _openai.AsyncAzureOpenAI):
    """OpenAI's asynchronous client for Azure, observed like `OpenAI`."""


_CLIENTS = {
    "OpenAI": OpenAI,
    "Client": OpenAI,
    "AsyncOpenAI": AsyncOpenAI,
    "AsyncClient": AsyncOpenAI,
    "AzureOpenAI": AzureOpenAI,
    "AsyncAzureOpenAI": AsyncAzureOpenAI,
}
_OURS = (OpenAI, AsyncOpenAI, AzureOpenAI, AsyncAzureOpenAI)
_RESOURCES = ("chat", "responses", "completions", "embeddings", "images")
_DEFAULTS = (
    "api_key",
    "organization",
    "project",
    "base_url",
    "timeout",
    "max_retries",
    "default_headers",
    "http_client",
)


def observe_everywhere(wanted: bool) -> None:
    """Observe the clients of the library's own classes too, or no longer: those that are made from then on."""
    for kind, observed in ((_openai.OpenAI, observed_post), (_openai.AsyncOpenAI, observed_async_post)):
        if not wanted:
            if "post" in vars(kind):
                del kind.post
        elif "post" not in vars(kind):
            kind.post = _post_of(kind.post, observed)  # type: ignore[method-assign]


def _post_of(post: Any, observed: Any) -> Any:
    @wraps(post)
    def wrapper(self: Any, path: str, **given: Any) -> Any:
        bound = post.__get__(self)
        if isinstance(self, _OURS):  # observed already
            return bound(path, **given)
        return observed(bound)(path, **given)

    return wrapper


class _Module(ModuleType):
    """The module `openai`, with our clients in place of its own, and resources of a default client of ours."""

    def __init__(self) -> None:
        super().__init__(_openai.__name__, _openai.__doc__)
        self.__dict__["_default"] = None

    def __getattr__(self, name: str) -> Any:
        if name in _CLIENTS:
            return _CLIENTS[name]
        if name in _RESOURCES and getattr(_openai, "api_type", None) in (None, "openai"):
            return getattr(self._default_client(), name)
        return getattr(_openai, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_openai, name, value)

    def __dir__(self) -> list[str]:
        return dir(_openai)

    def _default_client(self) -> OpenAI:
        """The client of calls like `openai.chat.completions.create`, made of the module's settings as they are now."""
        settings = {name: value for name in _DEFAULTS if (value := getattr(_openai, name, None)) is not None}
        known = self.__dict__["_default"]
        if known is None or known[0] != settings:
            self.__dict__["_default"] = known = (settings, OpenAI(**settings))
        client: OpenAI = known[1]
        return client


openai: Any = _Module()
"""The module `openai` with the clients above as its own, for programs that `import openai`."""
