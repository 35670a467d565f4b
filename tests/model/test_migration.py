"""Migration in sub-steps: what its rules must do, each taken away in turn, and what then breaks in so many steps.

Steps are by hand, from the rules: a page is written, and its entry meets fork, mprotect or a pin on its way.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from z3 import And, BoolVal, Implies, Not

from invariants import invariant
from model.kernels import FURTHER, KERNELS, Kernel
from model.lapses import Lapse
from model.logic import System, Term, Update, forall, functions_in
from model.state import (
    Page,
    Proc,
    exclusive,
    migration_exclusive,
    pte_migration,
    pte_soft_dirty,
    pte_write,
    vma_soft_dirty,
    vma_write,
)
from proofs.check.cells import claim_of
from proofs.check.scopes import scope_of
from proofs.explore.search import explore
from proofs.induct.mine import Miner
from proofs.induct.search import Proof, Search

ON_THE_WAY = ("migration", "migrate")
NAMED = {kernel.name: kernel for kernel in (*KERNELS, *FURTHER)}


def _parent(update: Update, holds: Term) -> Update:
    """In the parent the cell changes only where that does not hold."""
    return replace(update, when=And(update.when, Not(holds)))


def _leaves_writable(update: Update) -> Update:
    taken = update.function is pte_write and str(update.index[0]) == "p"
    return _parent(update, pte_migration(*update.index)) if taken else update


def _keeps_exclusive(update: Update) -> Update:
    """What the entry says of its page stays in the parent, and the child's says the same."""
    if update.function is not migration_exclusive:
        return update
    (v,) = update.over
    parent = next(x for x in _PARENTS if x.sort() == update.index[0].sort())
    return replace(update, value=migration_exclusive(parent, v))


_PARENTS = (NAMED["v7.2"].system().rule("fork").params[0].term,)


def _never_exclusive(update: Update) -> Update:
    lost = update.function is exclusive and str(update.index[0]) == "new"
    return replace(update, value=BoolVal(False)) if lost else update


def _speaks_of_exclusive(conjunct: Term) -> bool:
    return exclusive.name in functions_in(conjunct)


MPROTECT_LEAVES = Lapse("mprotect leaves writable entries writable", ("mprotect-ro",), lambda u: replace(
    u, value=And(pte_write(*u.index), pte_migration(*u.index))) if u.function is pte_write else u)
FORK_LEAVES = Lapse("fork leaves writable entries writable in the parent", ("fork",), _leaves_writable)
FORK_KEEPS = Lapse("fork leaves exclusive entries exclusive, in both", ("fork",), _keeps_exclusive)
TAKES_PINNED = Lapse("try_to_migrate takes exclusive pages that are pinned", ("migrate",), stages=("unmap",),
                     guard=lambda conjunct: not _speaks_of_exclusive(conjunct))
FORGES = Lapse("remove_migration_pte gives the write bit to whatever lies in a writable VMA", ("migrate",),
               stages=("move",), more=lambda rule: [
                   replace(u, function=pte_write, value=vma_write(*u.index))
                   for u in rule.updates if u.function is pte_migration])
LOSES = Lapse("remove_migration_pte does not say that the page is exclusive again", ("migrate",), _never_exclusive,
              stages=("move",))


def broken_in(system: System, claim: str) -> int:
    """The least number of steps in which the claim breaks; 0 if it does not, in a scope with room for one move."""
    claims = [claim_of(invariant(claim))]
    part = system.restricted(system.cone([f for c in claims for f in (c.formula, c.premise)]))
    found = explore(part, scope_of(2, 1, 2, 1, 1), claims, stop_at_violations=True, reduce=False)
    path = found.findings[0].path
    assert path is not None or found.complete
    return len(path or ())


def lapsed(kernel: Kernel, lapse: Lapse) -> System:
    """The kernel's system with migration in sub-steps, and that lapse in it."""
    system = kernel.system(ON_THE_WAY)
    changed = tuple(map(lapse.of, system.rules))
    assert any(after is not before for before, after in zip(system.rules, changed, strict=True))
    return replace(system, rules=changed)


@pytest.mark.parametrize(("lapse", "kernel", "claim", "steps"), [
    (FORK_LEAVES, "v5.14", "isolation-mapping", 4), (FORK_LEAVES, "v7.2", "isolation-mapping", 4),
    (FORK_KEEPS, "v7.2", "exclusive", 3), (TAKES_PINNED, "v5.19", "coherence-write-pin", 6),
    (FORGES, "v5.18", "isolation-mapping", 4), (FORGES, "v6.1", "isolation-mapping", 4),
    (LOSES, "v7.2", "exclusive", 3), (MPROTECT_LEAVES, "v7.2", "mprotect", 4),
], ids=lambda value: getattr(value, "about", None))
def test_without_what_a_sub_step_must_do_a_claim_breaks(lapse: Lapse, kernel: str, claim: str, steps: int) -> None:
    assert broken_in(lapsed(NAMED[kernel], lapse), claim) == steps


def test_a_page_that_moves_under_a_pin_is_another_one_than_the_process_has() -> None:
    careless = NAMED["v7.2"].but("careless", "migration counts nothing", {"migrate_referenced": "a test"},
                                 migrate_referenced="allow")
    assert broken_in(careless.system(ON_THE_WAY), "coherence-write-pin") == 4


@pytest.mark.parametrize(("kernel", "steps"), [("v5.14", 4), ("v5.19", 4), ("v7.2", 4), ("v6.2", 7)])
def test_clear_refs_leaves_an_entry_writable(kernel: str, steps: int) -> None:
    """F37. From 6.1 to 6.11 an entry of a dirty PTE makes it soft-dirty, so that it takes one that is clean."""
    assert broken_in(NAMED[kernel].system(ON_THE_WAY), "soft-dirty") == steps


CLEAR_REFS_PROTECTS = Lapse(
    "clear_refs makes writable entries readable", ("clear-soft-dirty",),
    lambda u: replace(u, value=BoolVal(False)) if u.function is pte_write else u)


def entries_are_tracked() -> Term:
    """While writes are tracked, an entry that is not soft-dirty is read-only."""
    return forall(Proc, Page, lambda p, v: Implies(
        And(pte_migration(p, v), Not(vma_soft_dirty(p)), Not(pte_soft_dirty(p, v))), Not(pte_write(p, v))
    ))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["v5.14", "v7.2"])
def test_f37_is_mended_if_clear_refs_protects_entries_as_mprotect_does(kernel: str) -> None:
    """For any number of processes, pages, frames and references: docs/reports/clear-refs-migration.md."""
    full = lapsed(NAMED[kernel], CLEAR_REFS_PROTECTS)
    claim, lemma = claim_of(invariant("soft-dirty")), entries_are_tracked()
    system = full.restricted(full.cone([claim.formula, claim.premise, lemma]))
    found = Search(system, functools.cache(lambda: Miner(system)), [lemma]).prove(claim, 240)
    assert isinstance(found, Proof), found
    assert broken_in(full, "soft-dirty") == 0
