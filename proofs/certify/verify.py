"""Verify certificates: every file made again from the model and compared, then asked of the solvers."""

from __future__ import annotations

import functools
import itertools
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.logic import ModelError
from proofs.certify.manifest import Checked, Opened, manifests_in, opened_together
from proofs.certify.solvers import BUILT_IN, ask_all
from proofs.clock import check_time
from proofs.errors import Interrupted
from proofs.naming.specs import TermDigests
from proofs.parallel import each_done


def _judged(
    opened: Opened, solvers: Sequence[str], answers: Mapping[tuple[str, Path], tuple[str, float]]
) -> Checked:
    said = [(f"{s}: {name}", *answers[s, path]) for name, path in opened.files.items() for s in solvers]
    against = [f"{where}: sat" for where, answer, _ in said if answer == "sat"]
    missing = [f"{where}: {answer or 'no answer'}" for where, answer, _ in said if answer not in ("sat", "unsat")]
    verdict = "refused" if opened.refused or against else "unconfirmed" if missing else "accepted"
    reason = opened.refused or next(iter(against + missing), "")
    seconds = sum(spent for *_, spent in said)
    return Checked(
        opened.kernel, opened.invariant, opened.without, verdict, reason, len(opened.files), opened.clauses, seconds
    )


def verify(
    paths: Path | Sequence[Path], solvers: Sequence[str] = BUILT_IN, timeout: float = 60, workers: int = 2,
    progress: Callable[[int, int], Any] = lambda done, total: None, asked: Mapping[Path, TermDigests] | None = None,
) -> list[Checked]:
    """Check manifests, or all those in folders: each is the proof that it says it is, and every solver says so.

    A certificate for a kernel in a file runs that file. `asked`: what manifests are wanted for; one that is of
    something else is refused.

    `solvers`: `z3` and `cvc5` are built in, any other is a command that gets a file's path and prints `unsat`.
    `timeout`: seconds for each solver and file; each file is asked once. `progress(done, total)` counts them.
    Raises Interrupted with what is known by then; ModelError if there is no manifest, no solver, no time, or no such
    command, or if what was asked has other terms where it is verified.
    """
    places = [paths] if isinstance(paths, Path) else list(paths)
    manifests = [m for place in places for m in (manifests_in(place) if place.is_dir() else [place])]
    if not manifests:
        raise ModelError(f"no certificates in {', '.join(map(str, places)) or 'no place at all'}")
    if not solvers:
        raise ModelError("no solver given; there are z3, cvc5 and commands of your own")
    check_time(timeout)
    for solver in set(solvers) - set(BUILT_IN):
        try:
            words = shlex.split(solver)
        except ValueError as error:
            raise ModelError(f"no solver {solver!r}: {error}") from error
        if not words or shutil.which(words[0]) is None:
            raise ModelError(f"no solver {solver!r}: neither {' nor '.join(BUILT_IN)} nor a command")
    # Those of one kernel together, so that its terms are built once.
    wanted = [(m, (asked or {}).get(m)) for m in sorted(set(manifests))]
    by_folder = [tuple(group) for _, group in itertools.groupby(wanted, lambda each: each[0].parent)]
    with tempfile.TemporaryDirectory() as made:
        by_path: dict[Path, Opened] = {}
        for group, several in each_done(functools.partial(opened_together, made=Path(made)), by_folder, workers):
            by_path |= zip((m for m, _ in group), several, strict=True)
        return _asked([by_path[m] for m in manifests], solvers, timeout, workers, progress)


def _asked(
    opened: Sequence[Opened], solvers: Sequence[str], timeout: float, workers: int,
    progress: Callable[[int, int], Any],
) -> list[Checked]:
    """The verdicts on opened manifests, every file asked once. Raises Interrupted with what is known by then."""
    files = dict.fromkeys(path for each in opened for path in each.files.values())
    questions = [(solver, path) for path in files for solver in dict.fromkeys(solvers)]
    try:
        answers = ask_all(questions, timeout, workers, progress)
    except Interrupted as error:
        raise Interrupted([_judged(each, solvers, error.so_far) for each in opened]) from error
    return [_judged(each, solvers, answers) for each in opened]
