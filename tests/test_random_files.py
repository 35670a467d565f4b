"""Users' files at random: what is not refused gets one answer from every engine, and nothing false is proved."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import random_files

from model.logic import ModelError, Scope, System
from proofs.bmc.bounded import bmc
from proofs.bmc.unrolling import Unrolling
from proofs.check import prove
from proofs.check.scopes import scope_of
from proofs.derive.interpreter import Interpreter, State
from proofs.engine import Claim
from proofs.explore.search import explore
from proofs.naming.specs import check_spoken, find_invariants, find_kernel, system_of

SMALL, WIDER = scope_of(2, 1, 2, 1, 1), scope_of(2, 2, 2, 2, 1)
KEPT = 7
MOST = 3000
"""How many rules of the model's own a kernel keeps, and how many states the interpreter looks at."""
DEPTH = 3


def reached(system: System) -> Iterator[list[State]]:
    """The levels of states that the interpreter reaches, as far as it looks."""
    interpreter = Interpreter(system, SMALL)
    seen = {interpreter.initial()}
    level = list(seen)
    while level and len(seen) < MOST:
        yield level
        level = list({after for state in level for _, after in interpreter.successors(state)} - seen)
        seen |= set(level)


def nearest(system: System, scope: Scope, claims: Sequence[Claim], symmetric: bool) -> dict[str, int | None]:
    """The length of the shortest path to a state that breaks each claim; the same with symmetry, where it is used."""
    explored = explore(system, scope, claims, reduce=False, timeout=20)
    lengths = {f.claim.name: None if f.path is None else len(f.path) for f in explored.findings}
    reduced = explore(system, scope, claims, timeout=20) if symmetric else explored
    for f in reduced.findings if explored.complete and reduced.complete else ():
        assert lengths[f.claim.name] == (None if f.path is None else len(f.path)), f.claim.name
    return lengths


def refusal(error: ModelError) -> str:
    """What a file that is refused came to: one line."""
    assert "\n" not in str(error)
    return "refused"


def agree(seed: int, tmp_path: Path) -> str:
    """What became of the file: `refused`, or which claims were compared, and whether any was proved."""
    file = tmp_path / f"mine{seed}.py"
    file.write_text(random_files.text(seed))
    spec = f"{file}:MINE"
    try:
        whole = system_of(spec)
        stated = find_invariants(str(file))
    except ModelError as error:
        return refusal(error)
    own = {t.name for t in find_kernel(spec).own_rules}
    chance = random.Random(seed)
    usual = [r.name for r in whole.rules if r.name not in own and r.name != "anon-fault"]
    without = tuple(sorted(chance.sample(usual, len(usual) - KEPT)))
    system = system_of(spec, without)
    claims = []
    for each in stated:
        try:
            check_spoken(each, spec, without)
        except ModelError as error:
            refusal(error)
        else:
            claims.append(Claim(each.name, each.formula, each.premise))
    if not claims:
        return "refused"
    system = system.restricted(system.cone([f for c in claims for f in (c.formula, c.premise)]))
    found = nearest(system, SMALL, claims, not own)
    unrolling, interpreter = Unrolling(system, SMALL, reduce=not own), Interpreter(system, SMALL)
    levels = list(reached(system))
    for c in claims:
        length = found[c.name]
        bounded = bmc(system, SMALL, c, DEPTH, unrolling=unrolling)
        within = length if length is not None and length <= DEPTH else None
        assert (None if bounded.path is None else len(bounded.path)) == within, (seed, c.name)
        formula = c.formula
        breaking = (n for n, level in enumerate(levels) if not all(interpreter.evaluate(formula, s) for s in level))
        first = next(breaking, None)
        assert first == (length if length is not None and length < len(levels) else None), (seed, c.name)
    names = tuple(c.name for c in claims)
    proved = [a.invariant for a in prove.attempt(prove.ProofJob((spec,), names, without, 3, tmp_path)) if a.manifest]
    assert {found[name] for name in proved} <= {None}, seed
    # Where nothing is proved and there is no symmetry, there is nothing to hold a wider scope against.
    if wide := [c for c in claims if not own or c.name in proved]:
        wider = nearest(system, WIDER, wide, not own)
        assert {wider[name] for name in proved} <= {None}, seed
    return f"{len(claims)} claims, {len(proved)} proved"


@pytest.mark.parametrize("seed", range(4))
def test_engines_agree_on_a_users_file(seed: int, tmp_path: Path) -> None:
    agree(seed, tmp_path)


@pytest.mark.slow
def test_engines_agree_on_many_users_files(tmp_path: Path) -> None:
    came = [agree(seed, tmp_path) for seed in range(100, 112)]
    assert came.count("refused") < len(came) / 2
    assert sum(" 0 proved" not in each for each in came if each != "refused") > 3
