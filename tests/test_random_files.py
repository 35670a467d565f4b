"""Users' files at random: what is not refused gets one answer from every engine, and nothing false is proved."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import random_files

from model.logic import ModelError, System
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
    found = {}
    for scope in (SMALL, WIDER):
        explored = explore(system, scope, claims, reduce=False, timeout=20)
        reduced = explore(system, scope, claims, reduce=not own, timeout=20)
        for one, other in zip(explored.findings, reduced.findings, strict=True):
            lengths = [None if f.path is None else len(f.path) for f in (one, other)]
            if explored.complete and reduced.complete:
                assert lengths[0] == lengths[1], (seed, one.claim.name)
            found[scope, one.claim.name] = lengths[0]
    unrolling, interpreter = Unrolling(system, SMALL, reduce=not own), Interpreter(system, SMALL)
    levels = list(reached(system))
    for c in claims:
        nearest = found[SMALL, c.name]
        bounded = bmc(system, SMALL, c, DEPTH, unrolling=unrolling)
        within = nearest if nearest is not None and nearest <= DEPTH else None
        assert (None if bounded.path is None else len(bounded.path)) == within, (seed, c.name)
        formula = c.formula
        breaking = (n for n, level in enumerate(levels) if not all(interpreter.evaluate(formula, s) for s in level))
        first = next(breaking, None)
        assert first == (nearest if nearest is not None and nearest < len(levels) else None), (seed, c.name)
    names = tuple(c.name for c in claims)
    proved = [a.invariant for a in prove.attempt(prove.ProofJob((spec,), names, without, 3, tmp_path)) if a.manifest]
    for name in proved:
        assert {found[SMALL, name], found[WIDER, name]} == {None}, (seed, name)
    return f"{len(claims)} claims, {len(proved)} proved"


@pytest.mark.parametrize("seed", range(4))
def test_engines_agree_on_a_users_file(seed: int, tmp_path: Path) -> None:
    agree(seed, tmp_path)


@pytest.mark.slow
def test_engines_agree_on_many_users_files(tmp_path: Path) -> None:
    came = [agree(seed, tmp_path) for seed in range(100, 112)]
    assert came.count("refused") < len(came) / 2
    assert sum(" 0 proved" not in each for each in came if each != "refused") > 3
