"""What became of spans."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushReceipt:
    """Every span that this process ended is in exactly one of delivered, pending and dropped."""

    delivered: int = 0
    """The server has them in its log."""
    pending: int = 0
    """On their way: in the spool, or not written yet."""
    dropped: int = 0
    """Lost: refused by the server for good, over a bound of memory or disk. Each reason is logged, with how many."""
    adopted: int = 0
    """Delivered on behalf of processes that ended before they could."""
    durable: bool = True
    """Whether what is pending survives the end of this process."""
    position: str = ""
    """Where in the server's log the delivered ones are: a read that is given it as `wait_for` sees them."""
    problem: str = ""
    """Why some are pending: what the last attempt to deliver met with."""

    @property
    def complete(self) -> bool:
        """Whether all of them are delivered."""
        return not self.pending and not self.dropped


@dataclass(frozen=True, slots=True)
class ConnectionCheck:
    """Whether the server can be reached and takes our key, in words for people."""

    ok: bool
    message: str
