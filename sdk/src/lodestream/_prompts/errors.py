"""Why a prompt could not be had, or a change of one was not made."""


class PromptError(Exception):
    """What all of them are."""


class PromptNotFoundError(PromptError, LookupError):
    """The project has no such prompt, version or label."""


class PromptUnavailableError(PromptError, RuntimeError):
    """The server could not be asked, and nothing is remembered. A `fallback` would have been given instead."""


class PromptTypeError(PromptError, TypeError):
    """The prompt is of the other type: text where messages were asked for, or the other way round."""


class PromptRefusedError(PromptError, ValueError):
    """The server refused a change: the request is wrong, or somebody else was first. The message says which."""
