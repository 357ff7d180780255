"""What rebuilding and verifying tells, as lines for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.edge.cli.render.text import inert


def lines(event: Mapping[str, Any]) -> list[str]:
    """An event; of one that is not known nothing."""
    match event["event"]:
        case "progress":
            return [_progress(event)]
        case "begun":
            verb = "going on with a rebuild" if event["resumed"] else "rebuilding"
            return [f"{verb}; the log holds {event['records']:,} records that the live one has folded"]
        case "indexing":
            return ["making the indexes"]
        case "comparing":
            return ["comparing"]
        case "waiting":
            return [f"waiting: {inert(event['reason'])}"]
        case "compared" | "verified":
            return _compared(event)
        case "swapped":
            return [f"swapped; batches waited for {event['held_ms']} ms. The old one is kept as {event['kept']}"]
        case "different":
            return ["not swapped: run again with --accept-differences to swap all the same, or with --restart"]
        case "undone":
            return [f"{event['live']} is again what it was before the swap; the rebuilt one is {event['kept']}"]
        case "dropped":
            return [f"dropped {event['schema']}" if event["was_there"] else f"there is no {event['schema']}"]
        case "redriven":
            return [_redriven(event)]
    return []


def _progress(event: Mapping[str, Any]) -> str:
    eta = "" if event["eta_seconds"] is None else f", {_duration(event['eta_seconds'])} left"
    rate = f", {event['items_per_second']:,} spans/s" if event["items_per_second"] else ""
    return f"{event['phase']} {event['percent']:.1f} %: {event['done']:,} of {event['of']:,} {event['unit']}{rate}{eta}"


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _compared(event: Mapping[str, Any]) -> list[str]:
    """Counts by table, the partitions and days that differ, and the first rows that do."""
    sides = [
        side for side in ("live", "rebuilt", "log", "stored") if any(side in of for of in event["tables"].values())
    ]
    found = []
    for table, counts in event["tables"].items():
        told = ", ".join(f"{counts[side]:,} {side}" for side in sides if side in counts)
        verdict = f"{counts['differing']} of {counts['groups']} groups differ" if counts["differing"] else "equal"
        found.append(f"{table}: {told}: {verdict}")
    for group in event["differing"]:
        where = "" if group["partition"] < 0 else f" partition {group['partition']},"
        told = ", ".join(f"{group[f'{side}_rows']:,} {side}" for side in sides if f"{side}_rows" in group)
        found.append(f"  {group['table']}:{where} {group['day']}: {told}")
    found += [f"  {_row(row)}" for row in event["rows"]]
    found += [f"  {inert(note)}" for note in event.get("notes", ())]
    return [*found, "equal" if event["same"] else "DIFFERENT"]


def _row(row: Mapping[str, Any]) -> str:
    key = " ".join(f"{name} {inert(str(value))}" for name, value in row["key"].items())
    columns = f" in {inert(', '.join(row['columns']))}" if row["columns"] else ""
    return f"{row['how']}{columns}: {row['table']} {key}"


def _redriven(event: Mapping[str, Any]) -> str:
    told = f"{event['redriven']} redriven, {event['failed']} failed again"
    reasons: Sequence[str] = event["reasons"]
    return "; ".join([f"{event['position']}: {told}", *map(inert, reasons)])
