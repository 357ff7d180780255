"""Revisions: the same everywhere, and another one whenever what an evaluator says may have changed.

Revisions hold a number that is kept by hand, for sources change with every comma. That it is kept is tested here: the
digest of all the code that an evaluator is made of is pinned beside its number. When this fails, raise the number of
the kinds whose evaluations may differ from before, and pin what is told.
"""

import ast
import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lodestream.evaluators import KINDS, RUN_KINDS, evaluator_of, run_evaluator_of

from sdk.tests.evaluator_specs import RUN_SPECS, SPECS

PINS = json.loads((Path(__file__).parent / "evaluator_pins.json").read_text())
PACKAGE = "lodestream_evals.evaluators"
CONTRACT = {f"{PACKAGE}.{name}" for name in ("_errors", "_evaluator", "_spec")}
PRINT_REVISIONS = """
import json, sys
from lodestream.evaluators import evaluator_of, run_evaluator_of
specs, run_specs = json.load(sys.stdin)
print(json.dumps([evaluator_of(s).revision for s in specs] + [run_evaluator_of(s).revision for s in run_specs]))
"""


def modules_of(name, seen):
    """The modules that a module is made of, but for the contract, which says nothing of any case."""
    if name in seen or name in CONTRACT:
        return
    seen.add(name)
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}._"):
            modules_of(str(node.module), seen)


def tree_of(name):
    spec = importlib.util.find_spec(name)
    return ast.parse(Path(str(spec and spec.origin)).read_text())


def told(node):
    """A syntax tree without what says nothing (places, docstrings, empty fields), alike in all versions of Python."""
    if isinstance(node, list):
        is_text = [isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant) for each in node]
        return [told(each) for each, text in zip(node, is_text, strict=True) if not text]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, []) and name != "ctx"]
    return [type(node).__name__, *([name, told(value)] for name, value in fields)]


def digest_of(kind):
    names: set[str] = set()
    modules_of(f"{PACKAGE}.{kind}", names)
    code = [[name, told(tree_of(name))] for name in sorted(names)]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()[:12]


@pytest.mark.parametrize("kind", [*KINDS.values(), *RUN_KINDS.values()], ids=lambda kind: kind.name)
def test_whoever_changes_the_code_thinks_of_the_number(kind):
    pinned = PINS["code"].get(kind.name)
    found = [kind.version, digest_of(kind.name)]
    assert found == pinned, f"raise the version of {kind.name} if its evaluations may differ, then pin {found}"


def test_revisions_are_the_same_everywhere():
    pinned = PINS["revisions"]
    found = [evaluator_of(spec).revision for spec in SPECS] + [run_evaluator_of(spec).revision for spec in RUN_SPECS]
    assert found == pinned, f"pin {json.dumps(found)}"
    told = json.dumps([SPECS, RUN_SPECS])
    elsewhere = subprocess.run(
        [sys.executable, "-c", PRINT_REVISIONS], input=told, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(elsewhere.stdout) == pinned


def test_settings_that_say_the_same_have_the_same_revision():
    def revision(**settings):
        return evaluator_of({"kind": "contains", "value": "x", **settings}).revision

    assert revision() == revision(mode="all", ignore_case=False, field="output", name="other")
    assert len({revision(), revision(mode="any"), revision(ignore_case=True), revision(field="output.a")}) == 4
    number = {"kind": "numeric_tolerance", "absolute": 1}
    assert evaluator_of(number).revision == evaluator_of({**number, "absolute": 1.0}).revision


def test_a_judges_revision_says_who_judges_by_which_rubric():
    def revision(**settings):
        judge = {"kind": "llm_judge", "provider": "mock", "model": "large", "prompt": {"name": "j", "version": 1}}
        return evaluator_of({**judge, **settings}).revision

    variants: list[dict[str, Any]] = [
        {}, {"provider": "openai"}, {"model": "small"}, {"prompt": {"name": "j", "version": 2}},
        {"prompt": {"name": "j", "label": "production"}}, {"settings": {"temperature": 0}}, {"votes": 3},
    ]  # fmt: skip
    assert len({revision(**settings) for settings in variants}) == len(variants)
