"""What goes wrong with evaluators: their settings, or their work. A bad output is neither; it is a value."""


class EvaluatorSpecError(ValueError):
    """The spec of an evaluator makes no sense; `field` is the setting ("pattern", "choices.good"; "" is the whole)."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class EvaluatorError(Exception):
    """The evaluator could not say anything: what it needs is not there, or its judge gave no answer."""


class SettingError(ValueError):
    """A value that a setting can't have, in words that follow its name. `Spec` says which setting it is."""
