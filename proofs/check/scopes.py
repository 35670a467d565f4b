"""Scopes, and the tables of `check --full`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from model.blame import nearest
from model.kernels import KERNELS
from model.logic import ModelError, Scope
from proofs.check.cells import Table
from proofs.check.prove import SECONDS
from proofs.data import FULL
from proofs.naming.specs import find_invariant, find_kernel, system_of, with_features
from proofs.traces.trace import LARGEST

SORT_ORDER = ("Proc", "Page", "Frame", "Pin", "Slot", "Folio", "Block")
"""The sorts whose numbers a scope is made of, in the order in which it gives them."""


def scope_of(procs: int, pages: int, frames: int, pins: int, slots: int, *more: int) -> Scope:
    """The scope of those sizes; `more` is the number of folios and that of blocks, or nothing."""
    # A folio for each process and one to be made; more than frames there cannot be.
    folios, blocks = more or (max(1, min(procs + 1, frames)), 1)
    sizes = (procs, pages, frames, pins, slots, folios, blocks)
    return Scope((*zip(SORT_ORDER, sizes, strict=True), ("Value", 1)))


SCOPES: dict[str, Scope] = {
    "default": scope_of(2, 1, 3, 1, 1),
    "medium": scope_of(2, 1, 4, 2, 1),
    "large": scope_of(3, 1, 3, 1, 1),
}


def apart(scope: Scope, huge: bool = False) -> str:
    """What tells traces in that scope from others, as part of a folder's name. `huge`: folios and blocks count."""
    sizes = (str(scope.as_dict()[sort]) for sort in (SORT_ORDER if huge else SORT_ORDER[:5]))
    return f".scope-{','.join(sizes)}"


NAMES = {
    "procs": 0, "processes": 0, "pages": 1, "frames": 2, "pins": 3, "references": 3, "slots": 4, "folios": 5,
    "blocks": 6,
}
"""What sizes are called, and their place in SORT_ORDER."""


def scope_by_names(sizes: Mapping[str, int]) -> Scope:
    """The default scope with other sizes, by their names. Raises ModelError for a name that is none, or twice."""
    known = [SCOPES["default"].as_dict()[sort] for sort in SORT_ORDER[:5]]
    given: dict[int, int] = {}
    for name, size in sizes.items():
        if name not in NAMES:
            raise ModelError(f"no size {name!r}{nearest(name, NAMES)}")
        if NAMES[name] in given:
            raise ModelError(f"{name} is given twice")
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= LARGEST:
            raise ModelError(f"{name}: a number from 0 to {LARGEST}, not {size!r}")
        given[NAMES[name]] = size
    first = [given.get(place, size) for place, size in enumerate(known)]
    if not {5, 6} & given.keys():
        return scope_of(*first)
    folios = given.get(5, scope_of(*first).as_dict()["Folio"])
    return scope_of(*first, folios, given.get(6, 1))


def in_words(scope: Scope, huge: bool = False) -> str:
    """The scope as `2 procs, 1 page, ...`; with numbers of folios and blocks if there are `huge` pages."""
    sizes = scope.as_dict()
    sorts = [s for s in SORT_ORDER if huge or s not in ("Folio", "Block")]
    return ", ".join(f"{sizes[s]} {s.lower()}{'s' * (sizes[s] > 1)}" for s in sorts)


# The tables of `check --full`

def rules_named(names: Iterable[str], specs: Iterable[str]) -> tuple[str, ...]:
    """The rules of those names in the kernels; that of a rule in sub-steps stands for all of them.

    Raises ModelError for one that none of the kernels has. Where there are no names, no system is built.
    """
    if not (names := list(names)):
        return ()
    rules = {r.name for spec in specs for r in system_of(spec).rules}
    found: set[str] = set()
    for name in names:
        named = {r for r in rules if name in (r, r.partition(".")[0])}
        if not named:
            raise ModelError(f"no rule {name!r}{nearest(name, sorted(rules))}")
        found |= named
    return tuple(sorted(found))


def configured(path: Path = FULL) -> list[Table]:
    """The tables of a file of configurations; the comment at its top says what is in it. Raises ModelError."""
    return [_configured(entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["configuration"]]


def _configured(entry: Mapping[str, Any]) -> Table:
    def because(what: str) -> dict[tuple[str, str], str]:
        return {
            (kernel, name): cells["because"]
            for cells in entry.get(what, ()) for kernel in cells["kernels"] for name in cells["invariants"]
        }

    kernels = entry.get("kernels", [*(k.name for k in KERNELS), *entry.get("also", ())])
    features = tuple(entry["features"])
    return Table(
        tuple((spec, find_kernel(spec)) for spec in kernels),
        tuple(find_invariant(name) for name in entry["invariants"]), scope_named(entry["scope"]),
        rules_named(entry.get("without", ()), [with_features(spec, features) for spec in kernels]),
        entry.get("timeout"), entry.get("proof_time", SECONDS), entry["name"], entry["about"], features,
        entry.get("inherits", False), because("violated"), because("holds"),
    )


def scope_called(what: str | Scope | Mapping[str, int]) -> Scope:
    """A scope, as `scope_named` or `scope_by_names` has it. Raises ModelError."""
    if isinstance(what, str):
        return scope_named(what)
    return what if isinstance(what, Scope) else scope_by_names(what)


def _sizes(parts: Iterable[str]) -> dict[str, int]:
    """The sizes of `procs=3`, ... Raises ModelError."""
    found: dict[str, int] = {}
    for part in parts:
        name, equals, number = (word.strip() for word in part.partition("="))
        if not equals or not re.fullmatch(r"[0-9]{1,9}", number):
            raise ModelError(f"a size is NAME=NUMBER, as procs=3, not {part.strip()!r}")
        if name in found:
            raise ModelError(f"{name} is given twice")
        found[name] = int(number)
    return found


_DIGITS = 30
"""Characters of a number that is looked at."""


def scope_named(text: str) -> Scope:
    """A scope by name, or as P,V,F,K,S: numbers of processes, pages, frames, references and swap slots; or as
    P,V,F,K,S,D,B with those of folios and blocks; or sizes by name, as procs=3,slots=2, the others as in the default
    one. Raises ModelError.
    """
    if text in SCOPES:
        return SCOPES[text]
    parts = text.split(",")
    if "=" in text:
        return scope_by_names(_sizes(parts))
    if len(parts) not in (5, 7) or not all(re.fullmatch(r"\s*-?[0-9]+\s*", p) for p in parts):
        raise ModelError(
            f"scope {text!r} is neither {', '.join(SCOPES)}, nor five numbers P,V,F,K,S or seven P,V,F,K,S,D,B, nor "
            "sizes by name, as procs=3,slots=2"
        )
    for part in parts:
        # Python reads numbers of some thousand digits only.
        if len(part) > _DIGITS or int(part) > LARGEST:
            raise ModelError(f"a scope has at most {LARGEST} of a sort, not {part.strip()[:_DIGITS]}")
    return scope_of(*(int(p) for p in parts))
