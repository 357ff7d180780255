"""What the three generations of a read model are called: the live one, the one being rebuilt, and the one before."""

from dataclasses import dataclass

TABLES_BY_PROJECTION = ("projection_positions", "dead_letters", "dead_letter_overflow", "parked_records")
"""Tables of the schema lodestream whose rows belong to a projection, by its name."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One of them: a schema, and a name in the positions and dead letters."""

    schema: str
    projection: str

    @property
    def search_path(self) -> str:
        """What makes unqualified names mean this one."""
        return f"{self.schema}, lodestream"


def live(name: str) -> Generation:
    """The one that readers see; its schema has the projection's name."""
    return Generation(name, name)


def rebuilt(name: str) -> Generation:
    """The one that is folded beside it."""
    return Generation(f"{name}_rebuild", f"{name}@rebuild")


def before(name: str) -> Generation:
    """The one that was live until the last swap."""
    return Generation(f"{name}_before", f"{name}@before")
