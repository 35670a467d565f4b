"""Verdicts on kernels against invariants: by exploration, by bounded model checking, by proof; the tables of them."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from invariants import INVARIANTS, Invariant
from model.blame import nearest
from model.kernels import Kernel
from model.logic import ModelError, Scope
from proofs import store
from proofs.check import again, scopes
from proofs.check.cells import Cell, CellKey, Cells, Table, write_trace
from proofs.check.engines import ENGINES, PROVING
from proofs.check.jobs import BMC_DEPTH, Job, jobs, run_job
from proofs.check.prove import SECONDS, Verdict, prove
from proofs.clock import check_time
from proofs.engine import Means
from proofs.explore import cluster
from proofs.naming import user_files
from proofs.naming.specs import features_of, find_invariants, find_kernel, of_session, spec_of, with_features
from proofs.parallel import each_done, heard_here, tell
from proofs.traces.render import FORMATS

# Running many jobs

def undecided(work: Iterable[Job], found: Mapping[CellKey, Cell], why: str) -> dict[CellKey, Cell]:
    """UNKNOWN cells, with that note, for all of the work that is not found, or found without a verdict or a reason."""
    cells = {}
    for job in work:
        for name in job.invariants:
            known = found.get(key := (job.table, job.kernel, name))
            if known is None:
                cells[key] = Cell(job.kernel, name, "UNKNOWN", job.engine, 0.0, False, note=why)
            elif known.verdict == "UNKNOWN" and not known.note:
                cells[key] = dataclasses.replace(known, note=why)
    return cells


def _stored(path: Path, job: Job) -> list[Cell] | None:
    """Results kept earlier, or None if there are none that can be read and say that they are of this job's content."""
    try:
        rows = store.kept(path, job.key)
        if len(rows) != len(job.invariants):
            return None
        return [Cell.from_kept(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _named(job: Job, cells: Sequence[Cell]) -> list[Cell]:
    """The cells as those of the job, which may be of other names than that of the same content which was done."""
    return [
        dataclasses.replace(cell, kernel=job.kernel, invariant=name)
        for cell, name in zip(cells, job.invariants, strict=True)
    ]


def run(
    work: Sequence[Job], out: Path, *, workers: int = 2, resume: bool = True, memory: int = Means.memory,
    ray: Any = None,
    progress: Callable[[int, int], Any] = lambda done, total: None, heard: Callable[[str], Any] = lambda line: None,
) -> Iterator[tuple[Job, list[Cell]]]:
    """Check every job, in parallel, giving each as it is done.

    What is done stays in `out`/results and is not done again; an exploration that takes long, or runs out of time or
    of `memory`, in bytes for each, stays in `out`/unfinished. `heard` gets lines on how far one is. With `ray`
    (cluster.connected) the jobs are done on that cluster, or if there is but one, its exploration is. Raises
    EngineError if two engines disagree.
    """
    kept = out / "results"
    kept.mkdir(parents=True, exist_ok=True)
    todo: dict[str, list[Job]] = {}
    done = 0
    for job in work:
        cells = _stored(kept / f"{job.key}.json", job) if resume else None
        if cells is None:
            todo.setdefault(job.key, []).append(job)
        else:
            done += 1
            yield job, _named(job, cells)
    progress(done, len(work))
    unfinished = out / "unfinished"
    if not resume:
        shutil.rmtree(unfinished, ignore_errors=True)
    means = Means(memory, max(1, workers // max(1, len(todo))), unfinished, tell=tell)
    jobs = [same[0] for same in todo.values()]
    if ray is None:
        results = each_done(functools.partial(run_job, means=means), jobs, workers, heard)
    elif len(jobs) == 1:
        with heard_here(heard):
            alone = run_job(jobs[0], dataclasses.replace(means, ray=ray))
        results = iter([(jobs[0], alone)])
    else:
        # What is not finished stays on the machine where it was begun: nobody would look for it there.
        alone_there = functools.partial(run_job, means=Means(memory, tell=tell))
        results = cluster.each_done(ray, alone_there, jobs)
    for first, cells in results:
        # A result that ran out of time may do better next time.
        lost: OSError | None = None
        if all(c.verdict != "UNKNOWN" for c in cells):
            try:
                store.keep(kept / f"{first.key}.json", first.key, [dataclasses.asdict(c) for c in cells])
            except OSError as error:
                lost = error
        for job in todo[first.key]:
            done += 1
            yield job, _named(job, cells)
        if lost is not None:
            # Not before: what is decided is decided, also where it cannot be kept.
            try:
                raise lost
            finally:
                # Else the error would keep this generator, and the workers with it, alive.
                del lost
        progress(done, len(work))


def with_proofs(
    cells: Iterable[Cell], out: Path, *, without: tuple[str, ...], fresh: bool, seconds: float, workers: int,
    progress: Callable[[str, int, int], Any], decided: Callable[[Cell], Any],
) -> None:
    """Tell `decided` the cells that are not violated with what proofs say of them, as soon as that is known; what the
    searches said stays where there is no proof. Raises EngineError as `prove` does.
    """
    left = {(c.kernel, c.invariant): c for c in cells if c.verdict != "VIOLATED"}

    def judged(verdicts: Mapping[tuple[str, str], Verdict]) -> None:
        for pair, verdict in verdicts.items():
            decided(_with_proof(left[pair], verdict))

    prove(
        list(left), out, without=without, fresh=fresh, seconds=seconds, workers=workers, progress=progress,
        judged=judged,
    )


def _with_proof(cell: Cell, verdict: Verdict) -> Cell:
    spent = verdict.attempt.seconds + (verdict.checked.seconds if verdict.checked else 0)
    cell = dataclasses.replace(
        cell, seconds=cell.seconds + spent, engine="proof" if cell.engine == "proof" else f"{cell.engine}+proof"
    )
    if verdict.spoiled:
        note = f"the certificate that was kept is not taken: {verdict.spoiled}"
        cell = dataclasses.replace(cell, note="; ".join(filter(None, (cell.note, note))))
    if verdict.proved and verdict.checked is not None:
        return dataclasses.replace(
            cell, verdict="PROVED", clauses=verdict.checked.clauses, certificate=str(verdict.attempt.manifest),
            dead_rules=verdict.dead_rules(cell.dead_rules if cell.states else None),
        )
    shown = "" if verdict.attempt.cti is None else f", see {verdict.attempt.cti}"
    return dataclasses.replace(cell, note="; ".join(filter(None, (cell.note, f"no proof: {verdict.note}{shown}"))))


def work_of(tables: Sequence[Table], engine: str, depth: int) -> list[Job]:
    """The searches for the tables, by an engine of ENGINES. Raises ModelError for an engine or depth there is not."""
    if engine not in ENGINES:
        raise ModelError(f"no engine {engine!r}{nearest(engine, ENGINES)}")
    if depth < 0:
        raise ModelError(f"a depth is 0 or more, not {depth}")
    searches = "both" if engine == "all" else engine
    # BMC is slow at the lengths that sub-steps need; a counterexample is executed by the interpreter in any case.
    return [
        job for table in tables
        for job in jobs(table, "explore" if table.name and searches == "both" else searches, depth)
    ]


def decide(
    tables: Sequence[Table], work: Sequence[Job], found: dict[CellKey, Cell], out: Path, *, proofs: bool,
    key: str | None = None, fresh: bool = False, workers: int = 2, memory: int = Means.memory, ray: Any = None,
    progress: Callable[[str, int, int], Any] = lambda stage, done, total: None,
    heard: Callable[[str], Any] = lambda line: None,
) -> None:
    """Do the work and put every cell into `found` as it is decided, the trace of each violation under `out`.

    `proofs`: what is not violated is then to be proved. `key`: of again.question, by which the whole is kept. `fresh`:
    nothing that an earlier run kept is taken. The rest is as in `run`. Raises EngineError if two engines disagree.
    """
    searched = run(
        work, out, workers=workers, resume=not fresh, memory=memory, ray=ray, heard=heard,
        progress=lambda done, total: progress("checking", done, total),
    )
    pictures = {ending: FORMATS[ending] for ending in ("svg", "dot")}
    for job, said in searched:
        cells = [dataclasses.replace(cell, scope=job.scope) for cell in said]
        found |= {(job.table, cell.kernel, cell.invariant): cell for cell in cells}
        for cell in cells:
            if cell.verdict == "VIOLATED":
                # A configuration's scope is its own, and its name is in the path.
                apart = "" if job.table else scopes.apart(job.scope, "huge" in features_of(job.kernel)[1])
                traced = write_trace(cell, job.scope, out / job.table, pictures, apart)
                found[job.table, cell.kernel, cell.invariant] = traced
    proved = [table for table in tables if proofs and table.proof_time]
    for table in proved:
        def decided(cell: Cell, name: str = table.name) -> None:
            found[name, cell.kernel, cell.invariant] = cell

        with_proofs(
            table.cells(found), out, without=table.without, fresh=fresh, seconds=table.proof_time, workers=workers,
            progress=progress, decided=decided,
        )
    if key is not None:
        again.keep(out, key, found, [table.name for table in proved])


def verdicts(
    kernels: Iterable[str | Kernel], invariants: Iterable[str | Invariant] = INVARIANTS, *,
    features: Iterable[str] = (), scope: str | Scope | Mapping[str, int] = "default", engine: str = "all",
    depth: int = BMC_DEPTH, timeout: float | None = None, proof_time: float = SECONDS, out: str | Path = "proofs-out",
    fresh: bool = False, workers: int = 2,
) -> Cells:
    """What `python -m proofs check` says of those kernels and invariants, by rows; traces and certificates under `out`.

    Both are named as on the command line, or are values: of a file of yours, which worker processes read again, as far
    as the first call of this; or of this session. With those, or one of `workers`, all is done in this process. An
    invariant that says nothing of a kernel has no cell there. `scope`: sizes by name, {"procs": 3}, or as on the
    command line. `timeout`, `proof_time`: seconds for each search and for each proof. Raises ModelError for what makes
    no sense, EngineError if two engines disagree.
    """
    user_files.begin()
    check_time(timeout, proof_time)
    specs = [kernel if isinstance(kernel, str) else spec_of(kernel) for kernel in kernels]
    names = [stated if isinstance(stated, str) else spec_of(stated) for stated in invariants]
    table = Table(
        tuple((with_features(spec, tuple(features)), find_kernel(spec)) for spec in specs),
        tuple(each for name in names for each in find_invariants(name)),
        scopes.scope_called(scope), timeout=timeout, proof_time=proof_time,
    )
    found: dict[CellKey, Cell] = {}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    key = again.question([table], engine, depth)
    if key is not None and not fresh and (had := again.answered(folder, key)) is not None:
        return Cells(table.cells(had))
    work = work_of([table], engine, depth)
    if workers == 1 or any(map(of_session, (*specs, *names))):
        workers = 0
    try:
        decide([table], work, found, folder, proofs=engine in PROVING, key=key, fresh=fresh, workers=workers)
    except BrokenProcessPool as error:
        raise ModelError("a worker process ended: memory ran out, or somebody ended it") from error
    return Cells(table.cells(found))
