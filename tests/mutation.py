"""`make mutants`: put faults into a fixed sample of what is pure, and see how many of them the unit tests find.

mutmut makes the mutants of the modules that `[tool.mutmut]` in pyproject.toml names, and runs the tests that come by
each. One in SAMPLE of them is tried, chosen by its name, so that it is the same from run to run until the code changes.
Prints what survived, and the share that was found of each module and altogether.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

_ROOT = Path(__file__).parents[1]
_MUTANTS = _ROOT / "mutants"
_MUTMUT = Path(sys.executable).with_name("mutmut")
_NONE = "no such mutant"


def main() -> None:
    """Run, and exit with 1 where less than the wanted share is found."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=10, metavar="N", help="try one in N; 1: all of them (10)")
    parser.add_argument("--least", type=float, default=0.0, metavar="SHARE", help="fail below this share, 0 to 1")
    parser.add_argument("modules", nargs="*", help="only mutants whose name begins so: services.read.query.filters")
    arguments = parser.parse_args()
    _mutmut(_NONE)  # makes all of them, and tries none
    names = [
        name
        for name in sorted(_verdicts())
        if crc32(name.encode()) % arguments.sample == 0 and name.startswith(tuple(arguments.modules) or "")
    ]
    _mutmut(*names)
    verdicts = _verdicts()
    if not names or any(verdicts[name] is None for name in names):
        sys.exit("mutmut did not try them: run .venv/bin/mutmut run to see why")
    tried, found = Counter[str](), Counter[str]()
    for name in names:
        module = name.partition(".x")[0]
        tried[module] += 1
        found[module] += verdicts[name] not in {0, 33}  # survived, or no test comes by
        if verdicts[name] in {0, 33}:
            _say(_difference(name))
    for module in tried:
        _say(f"{found[module]:4} of {tried[module]:4}  {module}")
    share = found.total() / max(1, tried.total())
    _say(f"{found.total():4} of {tried.total():4}  altogether: {share:.0%}")
    sys.exit(share < arguments.least)


def _mutmut(*names: str) -> None:
    """Try these mutants, in one process. What it draws on the terminal is of no use here."""
    subprocess.run([_MUTMUT, "run", "--max-children", "1", *names], cwd=_ROOT, capture_output=True, check=False)


def _verdicts() -> dict[str, int | None]:
    """The exit code of the tests by mutant; None: not tried."""
    return {
        name: code
        for path in _MUTANTS.rglob("*.py.meta")
        for name, code in json.loads(path.read_text())["exit_code_by_key"].items()
    }


def _difference(name: str) -> str:
    shown = subprocess.run([_MUTMUT, "show", name], cwd=_ROOT, capture_output=True, text=True, check=False).stdout
    return "\n".join(_changed(shown))


def _changed(shown: str) -> Iterator[str]:
    for line in shown.splitlines():
        if line.startswith(("#", "-", "+")) and not line.startswith(("---", "+++")):
            yield line


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
