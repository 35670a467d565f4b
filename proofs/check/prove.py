"""Proofs for the cells of the table: a certificate that is kept already, else a search, then two solvers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.blame import reason_of
from model.kernels import Kernel
from model.logic import ModelError, System, Term, functions_in
from proofs import store
from proofs.certify import manifest as manifests
from proofs.certify import verify
from proofs.data import CERTIFICATES, FEATURE_CERTIFICATES
from proofs.errors import EngineError
from proofs.induct.mine import Clause, Miner
from proofs.induct.search import Cti, Proof, Search, Unproved, dead_rules, state_of, unwritten
from proofs.naming.specs import TermDigests, find_invariant, find_kernel, system_of, terms_of
from proofs.parallel import each_done
from proofs.traces.picture import to_svg
from proofs.traces.trace import execute, write

SECONDS = 120.0
"""Time limit of the search for one proof."""


@dataclass(frozen=True)
class ProofJob:
    """Invariants to prove of kernels that have the same terms, less some rules; certificates go to `folder`.

    `terms`: what the process that asks has built of each kernel; None if it has not.
    """

    kernels: tuple[str, ...]
    invariants: tuple[str, ...]
    without: tuple[str, ...]
    seconds: float
    folder: Path
    terms: tuple[TermDigests, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """The search for one proof: `manifest` of its certificate, or `note` saying why there is none.

    `cti`: the trace file of a counterexample to induction, if that is why; its start state need not be reachable.
    """

    kernel: str
    invariant: str
    manifest: Path | None
    note: str = ""
    cti: Path | None = None
    seconds: float = 0.0


def kept(spec: str, name: str, without: tuple[str, ...], folder: Path) -> Path | None:
    """The manifest in the folder that is for this kernel's terms, less those rules, and this claim, all as they are; or
    None. It is not verified."""
    path = manifests.manifest_path(folder, spec, name, without)
    return path if not manifests.unlike(path, terms_of(spec, [name], without)) else None


def _kept_or_shipped(spec: str, name: str, without: tuple[str, ...], folder: Path) -> tuple[Path | None, str]:
    """As `kept`; a certificate that comes along is copied to the folder first, so that all evidence is in one place.

    And why what lies in the folder is not taken, though it says to be of these terms; empty if it is taken, or nothing
    is there.
    """
    found = kept(spec, name, without, folder)
    if found is not None:
        return found, ""
    path = manifests.manifest_path(folder, spec, name, without)
    spoiled = manifests.spoiled(path, terms_of(spec, [name], without))
    shipped = kept(spec, name, without, CERTIFICATES) or kept(spec, name, without, FEATURE_CERTIFICATES)
    if shipped is None:
        return None, spoiled
    try:
        return manifests.copied(shipped, folder), spoiled
    except ModelError as error:
        return None, str(error)


def jobs(
    wanted: Iterable[tuple[str, str]], without: tuple[str, ...], seconds: float, folder: Path
) -> list[ProofJob]:
    """The searches for proofs of (kernel, invariant), one for kernels with the same terms and invariants."""
    by_kernel: dict[str, list[str]] = {}
    for spec, name in wanted:
        by_kernel.setdefault(spec, []).append(name)
    same: dict[tuple[str, tuple[str, ...]], list[TermDigests]] = {}
    for spec, names in by_kernel.items():
        terms = terms_of(spec, names, without)
        same.setdefault((terms.system, tuple(names)), []).append(terms)
    return [
        ProofJob(tuple(t.kernel for t in terms), names, without, seconds, folder, tuple(terms))
        for (_, names), terms in same.items()
    ]


def search_of(
    spec: str, names: Sequence[str], without: tuple[str, ...] = (), hints: Sequence[Clause] = ()
) -> Search:
    """A search for proofs of those invariants, over the state functions that they need."""
    kernel, full = find_kernel(spec), system_of(spec, without)
    stated = [find_invariant(name) for name in names]
    system = full.restricted(full.cone([*(f for i in stated for f in (i.formula, i.premise)), *kernel.lemmas]))
    had = {f.name for f in system.functions}
    # A hint of another kernel may speak of what this one has not got, or does not need.
    fitting = [h for h in hints if functions_in(system.reduced(h.formula)) <= had]
    return Search(system, lambda: Miner(system, reduce=not kernel.unusual_rules), kernel.lemmas, fitting)


def objection(kernel: Kernel, system: System, clauses: Sequence[Term]) -> str:
    """Why a proof on this kernel would not count: what `unwritten` says of its unusual rules; empty if nothing."""
    rules = [r for r in system.rules if r.name.partition(".")[0] in kernel.unusual_rules]
    try:
        return unwritten(system, rules, clauses)
    except ModelError as error:
        # Of a cell whose next value is no term nobody can say.
        return str(error)


def attempt(job: ProofJob) -> list[Attempt]:
    """Search; every proof found is written as a certificate at once. Raises ModelError as `Terms.compare`."""
    for terms in job.terms:
        terms.compare()
    search = search_of(job.kernels[0], job.invariants, job.without)
    attempts: dict[str, list[Attempt]] = {}
    given_up: dict[str, tuple[Unproved, int]] = {}
    for name in (*job.invariants, *job.invariants):
        if name in attempts or (name in given_up and given_up[name][1] == len(attempts)):
            continue
        found = _sought(search, name, job.seconds)
        if isinstance(found, Proof):
            attempts[name] = _written(job, search, name, found)
        else:
            # Once more after all the others: what they were proved by is tried first then.
            spent = given_up[name][0].seconds if name in given_up else 0.0
            given_up[name] = replace(found, seconds=found.seconds + spent), len(attempts)
    for name in job.invariants:
        if name not in attempts:
            attempts[name] = _unproved(job, search, name, given_up[name][0])
    return [each for name in job.invariants for each in attempts[name]]


def _sought(search: Search, name: str, seconds: float) -> Proof | Unproved:
    claim = Clause(find_invariant(name).formula, name)
    try:
        return search.prove(claim, seconds)
    except ModelError as error:
        # A rule whose next state is no term can still be explored.
        return Unproved(claim, str(error), 0)
    except MemoryError:
        return Unproved(claim, "out of memory", 0)


def _written(job: ProofJob, search: Search, name: str, found: Proof) -> list[Attempt]:
    """The proof as a certificate for each kernel, unless it would not count."""
    formulas = [c.formula for c in found.clauses]
    note = objection(find_kernel(job.kernels[0]), search.system, formulas)
    return [
        Attempt(
            spec, name, None if note else manifests.write(job.folder, spec, name, formulas, job.without), note,
            seconds=found.seconds,
        )
        for spec in job.kernels
    ]


def _unproved(job: ProofJob, search: Search, name: str, found: Unproved) -> list[Attempt]:
    """Why there is no proof, drawn for each kernel where a counterexample to induction is why."""
    attempts = []
    for spec in job.kernels:
        cti, undrawn = None, ""
        if found.cti is not None and found.cti.step is not None:
            cti, undrawn = _drawn(job, spec, name, search.system, found.cti)
        attempts.append(Attempt(spec, name, None, found.reason + undrawn, cti, found.seconds))
    return attempts


DRAWN = 1_000_000
"""So many assignments of a claim's variables are looked at, at most, to draw how a counterexample breaks it."""


def _drawn(job: ProofJob, spec: str, name: str, system: System, cti: Cti) -> tuple[Path | None, str]:
    """The trace file of a counterexample to induction, or what to add to the note where it cannot be drawn."""
    sizes, stated = cti.scope.as_dict(), find_invariant(name)
    if math.prod(sizes.get(sort.name(), 1) for sort in stated.sorts) > DRAWN:
        return None, "; the counterexample to induction is too large to be drawn"
    try:
        return _write_cti(job, spec, name, system, cti), ""
    except Exception as error:
        # It only illustrates why there is no proof.
        return None, f"; the counterexample to induction cannot be drawn: {reason_of(error)}"


def _write_cti(job: ProofJob, spec: str, name: str, system: System, cti: Cti) -> Path:
    """The counterexample to induction as a trace of one step, and its picture."""
    assert cti.step is not None
    stated = find_invariant(name)
    trace = execute(
        spec, name, stated.statement, system, cti.scope, [cti.step], start=state_of(system, cti.tables),
        violated=stated.formula, reachable=False, without=job.without,
    )
    path = manifests.manifest_path(job.folder, spec, name, job.without).with_suffix(".cti.trace.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(trace, path)
    store.write(path.with_suffix("").with_suffix(".svg"), to_svg(trace))
    return path


@dataclass(frozen=True)
class Verdict:
    """What came of one proof: the attempt (of a kept certificate, without a search), and what the solvers say of it.

    `spoiled`: why the certificate that was kept was not taken, empty if it was, or there was none.
    """

    attempt: Attempt
    checked: manifests.Checked | None
    spoiled: str = ""

    @property
    def proved(self) -> bool:
        return self.checked is not None and self.checked.accepted

    def dead_rules(self, among: Sequence[str] | None) -> tuple[str, ...]:
        """The rules, of those named or all, whose guard contradicts the invariant: of them the proof says nothing."""
        assert self.checked is not None
        assert self.attempt.manifest is not None
        if among is not None and not among:
            return ()
        system = system_of(self.attempt.kernel, self.checked.without)
        rules = tuple(r for r in system.rules if among is None or r.name in among)
        return tuple(dead_rules(rules, manifests.formulas(self.attempt.manifest, system)))

    @property
    def note(self) -> str:
        """Why it is not proved; empty if it is."""
        return self.attempt.note if self.checked is None else self.checked.reason


def prove(
    wanted: Sequence[tuple[str, str]], out: Path, *, without: tuple[str, ...] = (), fresh: bool = False,
    seconds: float = SECONDS, workers: int = 2,
    progress: Callable[[str, int, int], Any] = lambda stage, done, total: None,
    judged: Callable[[dict[tuple[str, str], Verdict]], Any] = lambda verdicts: None,
) -> dict[tuple[str, str], Verdict]:
    """Proofs of (kernel, invariant), each re-checked by z3 and cvc5 in the form of its certificate.

    `without`: rules that the kernels are taken to lack. Kept certificates are taken from `out`/certificates or from
    those shipped, unless `fresh`; new ones go to the former. `seconds` limits each search. `judged` is told verdicts as
    soon as they are final. Raises EngineError if a solver refutes an obligation that the search had proved.
    """
    folder = out / "certificates"
    had = {} if fresh else {pair: _kept_or_shipped(*pair, without, folder) for pair in wanted}
    spoiled = {pair: why for pair, (_, why) in had.items()}

    def verified(attempts: Sequence[Attempt]) -> dict[tuple[str, str], Verdict]:
        said = _verified(attempts, without, workers, progress)
        return {pair: replace(verdict, spoiled=spoiled.get(pair, "")) for pair, verdict in said.items()}

    verdicts = verified([Attempt(*pair, path) for pair, (path, _) in had.items() if path is not None])
    refused = {pair: v.note for pair, v in verdicts.items() if v.checked is not None and v.checked.verdict == "refused"}
    judged({pair: verdict for pair, verdict in verdicts.items() if pair not in refused})
    spoiled |= refused
    work = jobs([pair for pair in wanted if pair in refused or pair not in verdicts], without, seconds, folder)
    attempts: list[Attempt] = []
    for _, more in each_done(attempt, work, workers):
        attempts += more
        progress("proving", len({a.kernel for a in attempts}), len({k for job in work for k in job.kernels}))
    late = verified(attempts)
    judged({pair: v for pair, v in late.items() if v.checked is None or v.checked.verdict != "refused"})
    verdicts |= late
    for verdict in verdicts.values():
        if verdict.checked is not None and verdict.checked.verdict == "refused":
            raise EngineError(f"{verdict.attempt.kernel}, {verdict.attempt.invariant}: proof refuted: {verdict.note}")
    return verdicts


def _verified(
    attempts: Sequence[Attempt], without: tuple[str, ...], workers: int, progress: Callable[[str, int, int], Any]
) -> dict[tuple[str, str], Verdict]:
    def verifying(done: int, total: int) -> None:
        progress("verifying", done, total)

    asked = {
        a.manifest: terms_of(a.kernel, [a.invariant], without) for a in attempts if a.manifest is not None
    }
    paths = [a.manifest for a in attempts if a.manifest is not None]
    checked = verify.verify(paths, workers=workers, progress=verifying, asked=asked) if paths else []
    said = dict(zip(paths, checked, strict=True))
    return {(a.kernel, a.invariant): Verdict(a, said.get(a.manifest) if a.manifest else None) for a in attempts}
