"""The decisions in which a kernel differs from another one: is any of them ever taken otherwise?

Each is put into the other kernel alone. z3 is asked for any number of elements (alike.py); what it does not prove is
looked for in every state that the other kernel reaches in a scope, which gives a shortest way to where it matters.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import z3

from model.decisions import PREDICATES
from model.kernels import Kernel, differing
from model.logic import Scope, System, Term, functions_in
from model.state import Value, cached, maps, slot_frame
from model.user_rules import arguments_of
from proofs.clock import done_by
from proofs.compare.alike import Known, Pair, candidates, unlike
from proofs.compare.diff import Decision, decisions
from proofs.derive.interpreter import Instance
from proofs.engine import Claim, Exploration
from proofs.errors import OutOfTime
from proofs.explore.search import explore
from proofs.naming.specs import features_of, find_kernel, system_of

SECONDS = 60.0
"""Time limit of the proofs, and of the exploration."""
UNREAD, UNREACHED, ALIKE, OTHERWISE, OPEN = "unread", "unreached", "alike", "otherwise", "open"
ANSWERS = {
    UNREAD: "changes no rule by itself with these features",
    UNREACHED: "never reached: no rule that asks it can be taken",
    ALIKE: "never decides otherwise",
    OTHERWISE: "decides otherwise",
    OPEN: "not known whether it ever decides otherwise",
}
"""What is said of a change, explained. All but the last two are proved for any number of elements."""


@dataclass(frozen=True)
class Change:
    """A decision that differs, or a rule that one of the kernels adds, and whether that ever matters.

    `answer`: of ANSWERS. `rules`: whose terms it changes. `because`: clauses, in words, that imply it. `path`: the
    steps of the old kernel to a nearest state in which `rule` does something else; empty if that is the first state.
    `note`: what a search of the scope saw where nothing is proved. `how`: what is proved of the condition that a
    predicate adds to the old one; empty if it adds none, or nothing is.
    """

    decision: Decision
    answer: str
    rules: tuple[str, ...] = ()
    because: tuple[str, ...] = ()
    path: tuple[Instance, ...] = ()
    rule: str = ""
    note: str = ""
    how: str = ""


@dataclass(frozen=True)
class Changes:
    """`alike`: with all changes at once no step is another one, in no reachable state, for any number of elements; by
    `clauses` clauses of an inductive invariant, proved by z3. `explored`: what was searched, None if nothing was."""

    old: str
    new: str
    changes: tuple[Change, ...]
    alike: bool
    clauses: int
    explored: Exploration | None
    seconds: float


class _Change:
    """One change with the rules that it touches, as it is worked out."""

    def __init__(self, decision: Decision, pairs: Sequence[Pair]) -> None:
        self.pairs = list(pairs)
        self.said = Change(decision, OPEN if pairs else UNREAD, tuple(p.name for p in pairs))

    def prove(self, known: Known) -> None:
        """Ask z3 whether its rules can be taken at all, and whether they do the same. Raises OutOfTime."""
        for answer, terms in (
            (UNREACHED, [z3.Not(p.enabled()) for p in self.pairs]), (ALIKE, [p.same()[0] for p in self.pairs]),
        ):
            leaned = known.implies_all(terms)
            if leaned is not None:
                because = tuple(dict.fromkeys(leaned))
                self.said = replace(self.said, answer=answer, because=because)
                return

    def find(self, found: Exploration, names: Sequence[str], whole: bool) -> None:
        """What the exploration says of those of its claims. `whole`: they are of all the rules that it touches."""
        mine = [f for f in found.findings if f.claim.name in names]
        broken = [f for f in mine if f.path is not None]
        if broken:
            nearest = min(broken, key=lambda f: len(f.path or ()))
            rule = nearest.claim.name.partition(": ")[2]
            self.said = replace(self.said, answer=OTHERWISE, path=nearest.path or (), rule=rule)
        elif not found.complete:
            self.said = replace(self.said, note=f"in no state that was looked at ({found.stopped})")
        elif not whole:
            self.said = replace(self.said, note="fork's copies are not compared in a scope of several pages")
        elif all(f.vacuous for f in mine):
            self.said = replace(self.said, note="in this scope no state lets any of its rules be taken")
        else:
            self.said = replace(self.said, note=f"in none of the {found.states:,} states of this scope")


def added(known: Known, decision: str, old: Any, new: Any) -> str:
    """What is proved of the condition that a predicate adds to the old one, of pages that are mapped or swapped out."""
    if not (callable(old) and callable(new)):
        return ""
    arguments = arguments_of(decision)
    choices = [(False, True) if sort is bool else (z3.Const(name, sort),) for name, sort in arguments]
    said = set()
    for given in itertools.product(*choices):
        by_name = dict(zip((name for name, _ in arguments), given, strict=True))
        p, v, f, s = (by_name.get(name) for name in "pvfs")
        here = maps(p, v, f) if s is None else z3.And(cached(s), slot_frame(s) == f)
        said.add(_extra(known, here, old(*given), new(*given)))
    return said.pop() if len(said) == 1 else ""


def _extra(known: Known, here: Term, was: Term, now: Term) -> str:
    rest = [part for part in now.children() if not part.eq(was)]
    if len(rest) == len(now.children()):
        return ""
    reduced = known.system.reduced

    def always(term: Term) -> bool:
        return known.implies(reduced(z3.Implies(here, term))) is not None

    if z3.is_or(now):
        extra = z3.Or(*rest)
        if always(z3.Not(extra)):
            return "the condition that it adds never holds"
        return "the condition that it adds implies the old one" if always(z3.Implies(extra, was)) else ""
    if z3.is_and(now) and always(z3.Implies(was, z3.And(*rest))):
        return "the condition that it adds holds wherever the old one does"
    return ""


def changes(
    old: str, new: str, scope: Scope, *, without: tuple[str, ...] = (), seconds: float = SECONDS, memory: int = 8 << 30,
    progress: Callable[[str], Any] = lambda stage: None,
) -> Changes:
    """What changed from one kernel to the other, by their specs with the same features, less the rules `without`.

    `seconds`: for the proofs, and for the exploration of the old kernel in the scope. Raises ModelError for a kernel
    that there is not.
    """
    started = time.monotonic()
    kernels, features = (find_kernel(old), find_kernel(new)), features_of(old)[1]
    systems = system_of(old, without), system_of(new, without)
    work = [_Change(d, _touched(systems[0], kernels, d.name, features, without))
            for d in decisions(*kernels, differing(*kernels))]
    own = {t.name for k in kernels for t in k.own_rules}
    whole = unlike(*systems)
    work += [_Change(Decision(f"rule {p.name}", _there(p.one), _there(p.other), ""), [p])
             for p in whole if p.name.partition(".")[0] in own]
    known = Known(systems[0], candidates(kernels[0], systems[0]))
    is_alike = False
    progress("proving that decisions are taken alike")
    try:
        with done_by(started + seconds):
            for change in work:
                if change.pairs:
                    change.prove(known)
                if change.said.answer == ALIKE and (name := change.said.decision.name) in PREDICATES:
                    how = added(known, name, *(getattr(k, name) for k in kernels))
                    change.said = replace(change.said, how=how)
            is_alike = known.is_like(systems[1]) is not None
    except OutOfTime:
        pass
    found = None
    undecided = [c for c in work if c.said.answer == OPEN]
    if undecided:
        progress("looking for a state in which they are taken otherwise")
        found = _search(undecided, systems[0], scope, seconds, memory, reduce=not kernels[0].unusual_rules)
    return Changes(
        old, new, tuple(c.said for c in work), is_alike, len(known.clauses), found, time.monotonic() - started
    )


def _there(rule: Any) -> str:
    return "none" if rule is None else "there"


def _touched(
    system: System, kernels: tuple[Kernel, Kernel], decision: str, features: Sequence[str], without: tuple[str, ...]
) -> list[Pair]:
    """The rules of the old kernel that differ once it takes that decision as the new one does."""
    changed = kernels[0].but(kernels[0].name, kernels[0].about, **{decision: getattr(kernels[1], decision)})
    other = changed.system(features)
    return unlike(system, other.without(without).settled() if without else other)


def _search(
    work: Sequence[_Change], system: System, scope: Scope, seconds: float, memory: int, reduce: bool
) -> Exploration:
    """Look at every state that the old kernel reaches in the scope."""
    claims: list[Claim] = []
    by_change: list[tuple[_Change, list[str]]] = []
    for change in work:
        mine = [p.claim(f"{change.said.decision.name}: {p.name}", scope) for p in change.pairs]
        by_change.append((change, [c.name for c in mine if c is not None]))
        claims += [c for c in mine if c is not None]
    spoken = frozenset().union(*(functions_in(t) for c in claims for t in (c.formula, c.premise)))
    if any(f.range == Value for f in system.functions if f.name in spoken):
        # With one content of pages no two could differ.
        scope = Scope(tuple((sort, 2 if sort == "Value" else size) for sort, size in scope.sizes))
    asked = system.restricted(system.cone([t for c in claims for t in (c.formula, c.premise)]))
    found = explore(asked, scope, claims, timeout=seconds, memory=memory, reduce=reduce, stop_at_violations=True)
    for change, names in by_change:
        change.find(found, names, len(names) == len(change.pairs))
    return found
