"""Whether the server can be reached, in words that say what to do."""

from lodestream._delivery.outcome import Taken, Why
from lodestream._delivery.receipt import ConnectionCheck
from lodestream._delivery.transport import Transport
from lodestream._settings import Settings


def check_connection(settings: Settings, timeout: float) -> ConnectionCheck:
    """Sends an export of no spans: it takes the way that spans take, key included."""
    if not settings.tracing_enabled:
        return ConnectionCheck(ok=False, message="tracing is off (no key, or switched off)")
    transport, endpoint = Transport(settings), settings.endpoint
    try:
        outcome = transport.send([], timeout=timeout)
    finally:
        transport.close()
    if isinstance(outcome, Taken):
        return ConnectionCheck(ok=True, message=f"{endpoint.target} answers and takes the key")
    if outcome.why is Why.SETUP:
        return ConnectionCheck(ok=False, message=f"the key or the address is wrong: {outcome.reason}")
    if outcome.why is not Why.AWAY:
        return ConnectionCheck(ok=False, message=outcome.reason)
    hint = "TLS is spoken, put http:// in front for plaintext" if endpoint.tls else "plaintext is spoken"
    return ConnectionCheck(ok=False, message=f"{endpoint.target} can't be reached ({hint}): {outcome.reason}")
