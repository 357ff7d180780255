"""Numbers and instants for people: three significant digits, the unit that fits, a cell or so of width."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, tzinfo

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.trace_pb2 import Tokens

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400  # seconds


def duration(us: int) -> str:
    """`812 µs`, `4.12 ms`, `412 ms`, `1.84 s`, `3m 04s`, `2h 05m`, `3d 04h`."""
    if us < 1_000:
        return f"{us} µs"
    if us < 999_500:
        return f"{_three_digits(us / 1_000)} ms"
    if us < 59_950_000:
        return f"{_three_digits(us / 1_000_000)} s"
    seconds = round(us / 1_000_000)
    if seconds < _HOUR:
        return f"{seconds // _MINUTE}m {seconds % _MINUTE:02}s"
    if seconds < _DAY:
        return f"{seconds // _HOUR}h {seconds % _HOUR // _MINUTE:02}m"
    return f"{seconds // _DAY}d {seconds % _DAY // _HOUR:02}h"


def count(number: int) -> str:
    """`1,234`, `12.3k`, `4.56M`."""
    if number < 10_000:
        return f"{number:,}"
    if number < 999_500:
        return f"{_three_digits(number / 1_000)}k"
    return f"{_three_digits(number / 1_000_000)}M"


def counted(number: int, noun: str) -> str:
    """`1 span`, `1,234 spans`."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def tokens(spent: Tokens) -> str:
    """`812→214`: sent and produced; only the total where nothing else is known; empty for none."""
    if spent.input or spent.output:
        return f"{count(spent.input)}→{count(spent.output)}"
    return count(spent.total) if spent.total else ""


def cost(usd: float) -> str:
    """US dollars: up to three significant digits below one dollar, cents above; empty for none."""
    if usd == 0:
        return ""
    if usd >= 999.995:
        return f"${usd:,.0f}"
    if usd >= 0.9995:
        return f"${usd:.2f}"
    if usd < 0.000_01:
        return "<$0.00001"
    exponent = int(f"{usd:e}".partition("e")[2])
    return f"${usd:.{min(2 - exponent, 6)}f}"


def share(part: int, whole: int) -> str:
    """`22 %`; `<1 %` where rounding would say none."""
    if not part or not whole:
        return "0 %"
    percent = 100 * part / whole
    return "<1 %" if percent < 1 else f"{percent:.0f} %"


def clock(instant: Timestamp, zone: tzinfo) -> str:
    """The time of day, to a tenth of a second."""
    return _local(instant, zone).strftime("%H:%M:%S.%f")[:-5]


def date_and_time(instant: Timestamp, zone: tzinfo) -> str:
    """A date and time, to a millisecond."""
    return _local(instant, zone).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def instants(column: Sequence[Timestamp], zone: tzinfo, today: date) -> list[str]:
    """A column of times in one form: the time of day where all are today, else with as much of the date as needed."""
    moments = [_local(instant, zone) for instant in column]
    if all(moment.date() == today for moment in moments):
        return [moment.strftime("%H:%M:%S") for moment in moments]
    if all(moment.year == today.year for moment in moments):
        return [moment.strftime("%m-%d %H:%M:%S") for moment in moments]
    return [moment.strftime("%Y-%m-%d %H:%M") for moment in moments]


def micros(instant: Timestamp) -> int:
    """Microseconds since 1970."""
    return instant.seconds * 1_000_000 + instant.nanos // 1_000


def _local(instant: Timestamp, zone: tzinfo) -> datetime:
    return instant.ToDatetime(tzinfo=UTC).astimezone(zone)


def _three_digits(number: float) -> str:
    """A number from 1 to 999.5 with three significant digits."""
    if number < 9.995:
        return f"{number:.2f}"
    return f"{number:.1f}" if number < 99.95 else f"{number:.0f}"
