"""What the client offers for prompts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from lodestream._arguments import texts_of
from lodestream._diagnostics import report_internal_error, warn_once
from lodestream._prompts.errors import PromptError, PromptNotFoundError, PromptUnavailableError
from lodestream._prompts.prompt import ChatPrompt, Prompt, PromptType, TextPrompt, fallback_of

if TYPE_CHECKING:
    from lodestream._prompts.cache import PromptCache

Messages = Sequence[Mapping[str, Any]]


class PromptMethods:
    """Looking prompts up raises PromptError only where there is nothing to give; changing them when it failed."""

    @property
    def _prompts(self) -> "PromptCache | None":
        """None: there is no server to ask."""
        raise NotImplementedError

    @overload
    def get_prompt(
        self, name: str, *, version: int | None = None, label: str | None = None, type: None = None,
        cache_ttl_seconds: float | None = 60, fallback: str | Messages | None = None, max_retries: int | None = 2,
        fetch_timeout_seconds: float | None = 5,
    ) -> Prompt: ...  # fmt: skip
    @overload
    def get_prompt(
        self, name: str, *, version: int | None = None, label: str | None = None, type: Literal["text"],
        cache_ttl_seconds: float | None = 60, fallback: str | None = None, max_retries: int | None = 2,
        fetch_timeout_seconds: float | None = 5,
    ) -> TextPrompt: ...  # fmt: skip
    @overload
    def get_prompt(
        self, name: str, *, version: int | None = None, label: str | None = None, type: Literal["chat"],
        cache_ttl_seconds: float | None = 60, fallback: Messages | None = None, max_retries: int | None = 2,
        fetch_timeout_seconds: float | None = 5,
    ) -> ChatPrompt: ...  # fmt: skip
    def get_prompt(
        self,
        name: str,
        *,
        version: int | None = None,
        label: str | None = None,
        type: PromptType | None = None,  # noqa: A002 - the name that callers know
        cache_ttl_seconds: float | None = 60,
        fallback: str | Messages | None = None,
        max_retries: int | None = 2,
        fetch_timeout_seconds: float | None = 5,
    ) -> Prompt:
        """The prompt by version or label, by default the label `production`.

        The first look-up asks the server; later ones are a look into memory, kept true by the server's word. While that
        can't be had, a prompt is asked for again, behind the program's back, after `cache_ttl_seconds`; 0 asks every
        time. Without the server the last known good on disk is given, then `fallback`. None: the default.

        Raises PromptNotFoundError, PromptTypeError or PromptUnavailableError, none of them with a fallback. A fallback
        that is no prompt, or not of `type`, raises TypeError or ValueError whether or not it is needed.
        """
        if version is not None and label is not None:
            raise ValueError("get_prompt takes a version or a label, not both")
        spare = None if fallback is None else fallback_of(name, fallback, type)
        try:
            return self._reachable().get(
                name,
                version if version is not None else label or "production",
                as_type=type,
                ttl=60 if cache_ttl_seconds is None else cache_ttl_seconds,
                retries=2 if max_retries is None else max_retries,
                timeout=5 if fetch_timeout_seconds is None else fetch_timeout_seconds,
            )
        except PromptError as error:
            if spare is None:
                raise
            if not isinstance(error, PromptNotFoundError):
                warn_once(f"prompt {name}", f"{error}; the fallback is used")
        except Exception as error:
            if spare is None:
                raise
            report_internal_error(f"looking up the prompt {name!r}", error)
        return spare

    def create_prompt(
        self,
        name: str,
        prompt: str | Messages,
        *,
        labels: Sequence[str] = (),
        tags: Sequence[str] = (),
        type: PromptType | None = None,  # noqa: A002 - the name that callers know
        config: Any = None,
        commit_message: str = "",
    ) -> Prompt:
        """A new version; it is what `labels` point to from now on. Waits for the server's decision.

        Raises TypeError when `labels` or `tags` is not a list of texts, PromptError.
        """
        from lodestream._prompts import changes

        given = "text" if isinstance(prompt, str) else "chat"
        if type not in (None, given):
            raise ValueError(f"prompt: a {type} prompt is {'a text' if type == 'text' else 'a list of messages'}")
        labels, tags = texts_of(labels, "labels"), texts_of(tags, "tags")
        prompts = self._reachable()
        created = changes.create(
            prompts.channel, name, prompt, labels=labels, tags=tags, config=config, commit_message=commit_message
        )
        prompts.forget(name)
        return created

    def update_prompt(
        self, name: str, version: int, new_labels: Sequence[str], *, expected_revision: int | None = None
    ) -> Prompt:
        """Let labels point to this version; gives it. With `expected_revision` only if nobody changed the prompt since.

        Raises TypeError when `new_labels` is not a list of texts, PromptError.
        """
        from lodestream._prompts import changes

        labels = texts_of(new_labels, "new_labels")
        prompts = self._reachable()
        moved = changes.move_labels(prompts.channel, name, version, labels, expected_revision=expected_revision)
        prompts.forget(name)
        return moved

    def roll_back_prompt(self, name: str, label: str = "production") -> Prompt:
        """Let a label point to the version again that it pointed to before; gives that.

        Raises PromptError.
        """
        from lodestream._prompts import changes

        prompts = self._reachable()
        back = changes.roll_back(prompts.channel, name, label)
        prompts.forget(name)
        return back

    def clear_prompt_cache(self, name: str | None = None) -> None:
        """Ask the server anew for this prompt, or for all, at the next look-up."""
        if (prompts := self._prompts) is not None:
            prompts.forget(name)

    def _reachable(self) -> "PromptCache":
        prompts = self._prompts
        if prompts is None:
            raise PromptUnavailableError(_OFF)
        return prompts


_OFF = "there is no server to ask for prompts: set LODESTREAM_PUBLIC_KEY and LODESTREAM_SECRET_KEY"
