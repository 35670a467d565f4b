"""Packages import what their docstring lets them, and nothing imports in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest
from places import ROOT

from model import state

PACKAGES = sorted(p.parent.name for p in ROOT.glob("proofs/*/__init__.py"))
OURS = ("model", "invariants", "proofs")
FILES_ABOVE = {p.stem for p in ROOT.glob("proofs/*.py")} - {"__init__", "__main__"}


LONG_FUNCTIONS = {
    "_gup": "one rule and its twin in sub-steps, which share what they take",
    "check": "a command whose signature alone, with its help texts, is as long",
    "_action": "a case for each operation of the language",
}
"""Functions over sixty lines, and why."""
LONGEST_FILE = 500
"""Lines. Tests are not counted: those of one subject share what is costly to make, file by file."""


def source_files() -> list[Path]:
    return [p for folder in OURS for p in sorted((ROOT / folder).rglob("*.py"))]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(p) for p in source_files()}


def imported_by(path: Path) -> Iterator[str]:
    """Our modules that a file imports when it is loaded or later."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found = {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found = {alias.name for alias in node.names}
        else:
            continue
        yield from found & MODULES


def test_nothing_imports_in_a_circle() -> None:
    graph = nx.DiGraph(
        (module_of(path), other) for path in source_files() for other in imported_by(path)
        # It offers names of its packages to whoever imports it, when they are asked for.
        if module_of(path) != "proofs"
    )
    assert list(nx.simple_cycles(graph)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_what_it_says(package: str) -> None:
    said = ast.get_docstring(ast.parse((ROOT / "proofs" / package / "__init__.py").read_text(encoding="utf-8")))
    assert said is not None
    allowed = re.search(r"May import, beside model, invariants and the files above: (.*)\.", said.replace("\n", " "))
    assert allowed is not None
    found = {
        other.split(".")[1] for path in (ROOT / "proofs" / package).glob("*.py") for other in imported_by(path)
        if other.startswith("proofs.")
    }
    assert found - FILES_ABOVE - {package} == set(allowed[1].split(", ")) - {"nothing"}


def test_the_model_imports_nothing_of_what_is_derived_from_it() -> None:
    for folder, below in (("model", {"model"}), ("invariants", {"model", "invariants"})):
        for path in (ROOT / folder).rglob("*.py"):
            assert {other.split(".")[0] for other in imported_by(path)} <= below, path


def test_only_main_imports_the_command_line() -> None:
    users = {
        module_of(path) for path in source_files() for other in imported_by(path) if other.startswith("proofs.cli")
    }
    assert {name for name in users if not name.startswith("proofs.cli")} == {"proofs.__main__"}


def test_no_test_touches_a_private_name_of_another_file() -> None:
    touched = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ours = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
                touched += [f"{path.name}: {a.name}" for a in node.names if a.name.startswith("_")]
                ours |= {a.asname or a.name for a in node.names if f"{node.module}.{a.name}" in MODULES}
        touched += [
            f"{path.name}: {node.value.id}.{node.attr}" for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours
            and node.attr.startswith("_") and not node.attr.startswith("__")
        ]
        # A name given as text: monkeypatch.setattr(module, "_name", ...), or "package.module._name".
        touched += [
            f"{path.name}: {text.value}" for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr"
            for text in node.args[:2] if isinstance(text, ast.Constant) and isinstance(text.value, str)
            if re.search(r"(^|\.)_[^_]", text.value)
        ]
    assert touched == []


def test_functions_are_short_but_for_some_with_a_reason() -> None:
    long = {
        node.name for path in source_files() for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 60
    }
    assert long == set(LONG_FUNCTIONS)


def test_files_are_short() -> None:
    lengths = {module_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in source_files()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_the_state_offers_all_that_its_files_define() -> None:
    defined = {
        name for path in (ROOT / "model" / "state").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body for name in names_defined_by(node)
    }
    assert {name for name in defined if not name.startswith("_")} <= set(state.__all__)


def names_defined_by(node: ast.stmt) -> set[str]:
    """What a statement at the top of a file gives a name to, but for imports."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
