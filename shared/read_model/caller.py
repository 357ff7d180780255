"""Who calls: the project of a call's API key."""

import grpc

from shared.read_model.authentication import Authenticator, KeysUnavailableError, UnauthenticatedError
from shared.runtime.refusal import Context, RefusedError, UnavailableError


async def project_of(keys: Authenticator, context: Context) -> str:
    """The project of the call's API key.

    Raises RefusedError.
    """
    authorization = dict(context.invocation_metadata() or ()).get("authorization")
    try:
        return await keys.project_of(authorization if isinstance(authorization, str) else None)
    except UnauthenticatedError as error:
        raise RefusedError(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None
    except KeysUnavailableError as error:
        raise UnavailableError(str(error), retry_seconds=5) from None
