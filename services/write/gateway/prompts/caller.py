"""On whose behalf something is looked up: the query service checks the key of whoever asked, itself."""

from dataclasses import dataclass

from services.write.gateway.admission import Admission
from shared.runtime.refusal import Context


@dataclass(frozen=True, slots=True)
class Caller:
    """A project and the metadata that proves it."""

    project_id: str
    authorization: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """For calls to the query service."""
        return (("authorization", self.authorization),)


async def caller_of(admission: Admission, context: Context) -> Caller:
    """Who calls.

    Raises RefusedError when the key is none.
    """
    project_id = await admission.project_of(context)
    metadata = dict(context.invocation_metadata() or ())
    return Caller(project_id, str(metadata["authorization"]))
