"""Which restrictions are enough: every set of them is decided by a proof or by a counterexample of its own.

A set of restrictions on a bare reuse rule is sufficient if the invariant is proved for any number of processes and
pages, insufficient if it has a counterexample. Nothing is inferred from one set to another: a counterexample is
executed again on every set to which it is carried over, and a proof is carried over rule by rule, each rule that reads
differently being proved again. So monotonicity, that more restrictions never break more, is a result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.logic import ModelError, Scope, System
from model.restrictions import RESTRICTIONS, SWITCHES, VARIANTS, WITH_FEATURES, spec_of
from proofs import store
from proofs.certify import verify
from proofs.certify.manifest import unlike, write
from proofs.certify.obligations import clause_of, parsed
from proofs.check import cells, jobs, scopes
from proofs.check import prove as proving
from proofs.derive.interpreter import Instance
from proofs.errors import EngineError, TraceError
from proofs.induct.mine import Clause, Miner
from proofs.induct.search import Proof, Search
from proofs.naming.specs import (
    TermDigests,
    features_of,
    files_digest,
    find_invariant,
    find_kernel,
    formula_of,
    system_of,
    terms_of,
)
from proofs.parallel import each_done
from proofs.traces.trace import execute, read

ALL_VARIANTS = tuple(variant.name for variant in VARIANTS)
SUFFICIENT, INSUFFICIENT, UNDECIDED = "sufficient", "insufficient", "undecided"
QUICKLY = 20.0
"""Seconds for the first search of a proof."""
Names = tuple[str, ...]
Steps = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]


@dataclass(frozen=True)
class CornerJob:
    """All sets of restrictions, with one set of variants.

    `key`: hash of all that the result depends on. `terms`: what the process that asks has built; None if it has not.
    """

    base: str
    invariant: str
    variants: Names
    seconds: float
    out: Path
    key: str
    terms: TermDigests | None = None


@dataclass(frozen=True)
class Decided:
    """One set. `evidence`: the certificate's manifest or the trace's file; `length`: of a shortest counterexample.

    `note`: why it is undecided.
    """

    restrictions: Names
    verdict: str
    evidence: str | None = None
    length: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Corner:
    """What came of one set of variants. `exceptions`: pairs (sufficient set, insufficient superset). `offered`: the
    restrictions of which the sets were made."""

    variants: Names
    minimal_sufficient: tuple[Decided, ...]
    maximal_insufficient: tuple[Decided, ...]
    undecided: tuple[Decided, ...]
    exceptions: tuple[tuple[Names, Names], ...]
    sets: int
    offered: Names


def offered(base: str) -> Names:
    """The restrictions of which sets are made: more where the base has features."""
    _, features = features_of(base)
    return (*(r.name for r in RESTRICTIONS), *(r.name for f, r in WITH_FEATURES.items() if f in features))


def scope_of(base: str) -> Scope:
    """Where counterexamples are sought: the default scope, or with huge pages one THP of two sub-pages."""
    sizes = scopes.SCOPES["default"].as_dict() | {"Folio": 1, "Block": 1}
    if "huge" in features_of(base)[1]:
        sizes |= {"Page": 2, "Frame": 2}
    return Scope.of(**sizes)


def subsets(names: Sequence[str]) -> list[frozenset[str]]:
    """All of them, the largest and the smallest first, so that what they show can be carried over to the others."""
    by_size = [
        frozenset(some) for n in range(len(names) + 1) for some in itertools.combinations(names, n)
    ]
    return sorted(by_size, key=lambda s: min(len(names) - len(s), len(s) + 0.5))


def corners(base: str, name: str, variants: Sequence[str], seconds: float, out: Path) -> list[CornerJob]:
    """One job for each set of those variants."""
    work = []
    asked = terms_of(base, [name])
    # The terms of every set would be much to build; what they are made of is the program and the users' files.
    program = f"{jobs.program_digest()} {files_digest([base, name])}"
    for some in sorted(subsets(variants), key=lambda s: (len(s), sorted(s))):
        chosen = tuple(v.name for v in VARIANTS if v.name in some)
        terms = [system_of(spec_of(base, (*chosen, *on))).digest() for on in ((), offered(base))]
        text = f"{base} {name} {chosen} {offered(base)} {terms} {asked.claims} {program}"
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        work.append(CornerJob(base, name, chosen, seconds, out, key, asked))
    return work


def _part(job: CornerJob) -> Path:
    """Where what is found for the job is kept until all of it is decided."""
    return job.out / "results" / f"{job.key}.part.json"


class Lattice:
    """Decides sets of restrictions, remembering counterexamples, proofs, and which rules keep which clauses."""

    def __init__(self, job: CornerJob) -> None:
        self.job = job
        self.stated = find_invariant(job.invariant)
        self.counterexamples: list[Steps] = []
        self.proofs: list[tuple[Clause, ...]] = []
        self.found: dict[str, list[Any]] = {"counterexamples": [], "proofs": []}
        self._remember()
        self.kept: set[tuple[str, tuple[Clause, ...]]] = set()
        self.decided: dict[frozenset[str], tuple[str, Any]] = {}
        self.explored: dict[frozenset[str], Steps | None] = {}

    def spec(self, names: Iterable[str]) -> str:
        return spec_of(self.job.base, (*self.job.variants, *names))

    def decide_all(self, sets: Sequence[frozenset[str]]) -> None:
        """Decide each of the sets.

        One for which no proof is found quickly waits until the others are decided, and so do those that are comparable
        with it: the smallest of them are the easiest to prove, and what proves one most often proves the larger ones.
        """
        waiting: list[frozenset[str]] = []
        for names in sets:
            waits = any(names < other or other < names for other in waiting)
            decided = self.carried(names) or (None if waits else self.decide(names, min(QUICKLY, self.job.seconds)))
            if decided is None or decided[0] == UNDECIDED:
                waiting.append(names)
            else:
                self.decided[names] = decided
        for names in sorted(waiting, key=len):
            self.decided[names] = self.carried(names) or self.decide(names, self.job.seconds)

    def carried(self, names: frozenset[str]) -> tuple[str, Any] | None:
        """The verdict by what another set has shown; None if none of that tells."""
        system = system_of(self.spec(names))
        for steps in reversed(self.counterexamples):
            if self._breaks(system, steps):
                return INSUFFICIENT, steps
        for clauses in reversed(self.proofs):
            if self._holds(system, clauses):
                return self._sufficient(names, system, clauses)
        return None

    def decide(self, names: frozenset[str], seconds: float) -> tuple[str, Any]:
        """(verdict, counterexample, clauses, or why undecided), found anew; `seconds` for the search of a proof."""
        system = system_of(self.spec(names))
        found = self._explored(names)
        if found is not None:
            self.counterexamples.append(found)
            self._keep("counterexamples", [[rule, [list(one) for one in binding]] for rule, binding in found])
            return INSUFFICIENT, found
        hints = list(dict.fromkeys(c for clauses in self.proofs for c in clauses[1:]))
        claim = self.proofs[0][0] if self.proofs else Clause(self.stated.formula, self.stated.name)
        proof = proving.search_of(self.spec(names), [self.stated.name], hints=hints).prove(claim, seconds)
        if not isinstance(proof, Proof):
            return UNDECIDED, proof.reason
        self.proofs.append(proof.clauses)
        said = [clause_of(c.formula, system) for c in proof.clauses]
        self._keep("proofs", [_names(names), [[c.variables, c.body] for c in said]])
        return self._sufficient(names, system, proof.clauses)

    def _keep(self, kind: str, found: Any) -> None:
        """Keep what was found, for a run that goes on where this one ends. Raises OSError."""
        self.found[kind].append(found)
        part = _part(self.job)
        part.parent.mkdir(parents=True, exist_ok=True)
        store.keep(part, self.job.key, self.found)

    def _remember(self) -> None:
        """Take what a run found that did not come to its end: every set is still decided by `carried`."""
        try:
            found = store.kept(_part(self.job), self.job.key)
            steps = [tuple((rule, tuple((x, value) for x, value in binding)) for rule, binding in one)
                     for one in found["counterexamples"]]
            proofs = [self._read(names, rows) for names, rows in found["proofs"]]
        except (OSError, ValueError, KeyError, TypeError, ModelError):
            return
        self.counterexamples, self.proofs, self.found = steps, proofs, found

    def _read(self, names: Names, rows: Any) -> tuple[Clause, ...]:
        """The clauses that proved that set. Raises ModelError if they are none of it."""
        system = system_of(self.spec(names))
        said = [parsed(tuple(map(tuple, variables)), body, system) for variables, body in rows]
        return tuple(Clause(c.formula(system), c.text) for c in said)

    def _sufficient(self, names: frozenset[str], system: System, clauses: tuple[Clause, ...]) -> tuple[str, Any]:
        note = proving.objection(find_kernel(self.spec(names)), system, [c.formula for c in clauses])
        return (UNDECIDED, note) if note else (SUFFICIENT, clauses)

    def _breaks(self, system: System, steps: Steps) -> bool:
        """The counterexample is one of this system too."""
        try:
            taken = [Instance(system.rule(rule), binding) for rule, binding in steps]
            execute("", self.stated.name, "", system, scope_of(self.job.base), taken, violated=self.stated.formula)
        except ModelError:
            return False
        return True

    def _holds(self, system: System, clauses: tuple[Clause, ...]) -> bool:
        """The clauses are an inductive invariant of this system too."""
        search = Search(system, lambda: Miner(system))
        for rule in system.rules:
            key = rule.text(), clauses
            if key not in self.kept:
                if not search.keeps(rule, clauses):
                    return False
                self.kept.add(key)
        return True

    def _explored(self, names: frozenset[str]) -> Steps | None:
        """A shortest counterexample in the scope, or None. Raises EngineError if there is no answer."""
        if names in self.explored:
            return self.explored[names]
        job = jobs.Job(
            self.spec(names), (self.stated.name,), scope_of(self.job.base), "explore", None, 0, (), ""
        )
        (cell,) = jobs.run_job(job)
        if cell.verdict not in ("VIOLATED", "EXHAUSTED"):
            raise EngineError(f"{self.spec(names)}, {self.stated.name}: {cell.verdict} {cell.note}")
        self.explored[names] = cell.steps if cell.verdict == "VIOLATED" else None
        return self.explored[names]


def decide_corner(job: CornerJob) -> Corner:
    """Decide every set of restrictions with the job's variants; write traces and certificates of the outermost ones.

    Raises ModelError as `Terms.compare`.
    """
    if job.terms is not None:
        job.terms.compare()
    lattice = Lattice(job)
    lattice.decide_all(subsets(offered(job.base)))
    found = {verdict: [s for s, (v, _) in lattice.decided.items() if v == verdict]
             for verdict in (SUFFICIENT, INSUFFICIENT, UNDECIDED)}
    minimal = [s for s in found[SUFFICIENT] if not any(t < s for t in found[SUFFICIENT])]
    maximal = [s for s in found[INSUFFICIENT] if not any(s < t for t in found[INSUFFICIENT])]
    return Corner(
        job.variants,
        tuple(with_certificate(lattice, s) for s in _ordered(minimal)),
        tuple(with_trace(lattice, s) for s in _ordered(maximal)),
        tuple(Decided(_names(s), UNDECIDED, note=str(lattice.decided[s][1])) for s in _ordered(found[UNDECIDED])),
        tuple((_names(s), _names(t)) for s in _ordered(minimal) for t in _ordered(found[INSUFFICIENT]) if s < t),
        len(lattice.decided), offered(job.base),
    )


def _names(some: Iterable[str]) -> Names:
    chosen = set(some)
    return tuple(name for name in SWITCHES if name in chosen)


def _ordered(sets: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    order = list(SWITCHES)
    return sorted(sets, key=lambda s: (len(s), [order.index(n) for n in _names(s)]))


def with_certificate(lattice: Lattice, names: frozenset[str]) -> Decided:
    """A sufficient set, its proof written."""
    job = lattice.job
    clauses = [c.formula for c in lattice.decided[names][1]]
    path = write(job.out / "certificates", lattice.spec(_names(names)), job.invariant, clauses)
    return Decided(_names(names), SUFFICIENT, str(path))


def with_trace(lattice: Lattice, names: frozenset[str]) -> Decided:
    """An insufficient set, its shortest counterexample written. Raises EngineError if exploration finds none."""
    steps = lattice._explored(names)
    if steps is None:
        raise EngineError(f"{lattice.spec(names)}: a counterexample was executed that exploration does not find")
    spec = lattice.spec(_names(names))
    cell = cells.Cell(spec, lattice.job.invariant, "VIOLATED", "explore", 0.0, False, len(steps), steps=steps)
    written = cells.write_trace(cell, scope_of(lattice.job.base), lattice.job.out, {})
    return Decided(_names(names), INSUFFICIENT, written.trace, len(steps))


def restrict(
    base: str, name: str, out: Path, *, variants: Sequence[str] = ALL_VARIANTS,
    seconds: float = proving.SECONDS, workers: int = 2, fresh: bool = False,
    progress: Callable[[str, int, int], Any] = lambda stage, done, total: None,
) -> list[Corner]:
    """Every minimal sufficient and every maximal insufficient set, for each set of `variants`; proofs are re-checked
    by z3 and cvc5.

    `base`: as `spec_of` takes it. `seconds`: for each search of a proof. What is decided stays in `out`/results, and is
    not decided again unless `fresh`, or its evidence is none; each proof and counterexample does that an unfinished run
    found. Raises EngineError if a proof is refuted.
    """
    kept = out / "results"
    kept.mkdir(parents=True, exist_ok=True)
    work = corners(base, name, variants, seconds, out)

    def verified(found: Iterable[tuple[CornerJob, Corner]]) -> dict[str, str]:
        """Key to why a proof of that corner is refused or not confirmed."""
        asked = {path: (job, terms) for job, c in found for path, terms in _certificates(job, c).items()}
        checked = verify.verify(
            list(asked), workers=workers, progress=lambda n, total: progress("verifying", n, total),
            asked={path: terms for path, (_, terms) in asked.items()},
        ) if asked else []
        return {
            job.key: f"{one.kernel}, {one.invariant}: {one.verdict}: {one.reason}"
            for one, (job, _) in zip(checked, asked.values(), strict=True) if not one.accepted
        }

    if fresh:
        for job in work:
            _part(job).unlink(missing_ok=True)
    had = [(job, c) for job in work if not fresh and (c := _stored(kept / f"{job.key}.json", job)) is not None]
    doubtful = verified(had)
    done = {job.key: c for job, c in had if job.key not in doubtful}
    progress("deciding", len(done), len(work))
    decided = []
    for job, corner in each_done(decide_corner, [job for job in work if job.key not in done], workers):
        done[job.key] = corner
        decided.append((job, corner))
        if not corner.undecided:
            store.keep(kept / f"{job.key}.json", job.key, dataclasses.asdict(corner))
            _part(job).unlink(missing_ok=True)
        progress("deciding", len(done), len(work))
    for refuted in verified(decided).values():
        raise EngineError(refuted)
    return [done[job.key] for job in work]


def _certificates(job: CornerJob, corner: Corner) -> dict[Path, TermDigests]:
    """The certificates of the corner's sufficient sets, and what each has to be of."""
    sets = {Path(str(d.evidence)): spec_of(job.base, (*job.variants, *d.restrictions))
            for d in corner.minimal_sufficient}
    return {path: terms_of(spec, [job.invariant]) for path, spec in sets.items()}


def _shows(job: CornerJob, insufficient: Decided) -> bool:
    """Its evidence is a counterexample of that set, of the length told, when it is executed again."""
    try:
        trace = read(Path(str(insufficient.evidence)), system_of, formula_of)
    except TraceError:
        return False
    spec = spec_of(job.base, (*job.variants, *insufficient.restrictions))
    return (trace.kernel, trace.claim, len(trace.steps)) == (spec, job.invariant, insufficient.length)


def _stored(path: Path, job: CornerJob) -> Corner | None:
    """A result kept earlier, or None if there is none that can be read, or it or its evidence is of something else."""
    try:
        row = store.kept(path, job.key)
        sets = {
            key: tuple(Decided(**{**d, "restrictions": tuple(d["restrictions"])}) for d in row[key])
            for key in ("minimal_sufficient", "maximal_insufficient", "undecided")
        }
        exceptions = tuple((tuple(a), tuple(b)) for a, b in row["exceptions"])
        corner = Corner(
            tuple(row["variants"]), exceptions=exceptions, sets=row["sets"], offered=tuple(row["offered"]), **sets
        )
        if any(unlike(manifest, terms) for manifest, terms in _certificates(job, corner).items()):
            return None
        return corner if all(_shows(job, d) for d in corner.maximal_insufficient) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
