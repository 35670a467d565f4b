"""What kernels do in litmus tests: the tests as one program, run here or in virtual machines, and what it printed.

A test in which a virtual machine ends or falls silent is named, and the tests after it run in another machine.
"""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.logic import ModelError
from proofs.errors import NotObservable, OutOfTime
from proofs.hardware import reproducer, vm
from proofs.hardware.needs import needs_zone
from proofs.litmus.execution import Outcome
from proofs.litmus.language import Litmus
from proofs.naming.specs import find_kernel, resolved
from proofs.parallel import end_with_parent

SECONDS = 600.0
"""The time limit of one run of many tests."""
QUIET = 75.0
"""Seconds in which a machine says nothing and is taken to hang: a program gives a test up after 60."""
CRASHED, HUNG, UNREACHED = "crashed", "hung", "unreached"
UNFINISHED = "the program ended before its verdict"
MISSED = "the program did not come to this test"


@dataclass(frozen=True)
class Observation:
    """What a program said of one test. `outcome`: None if it could not be seen, for `reason`. `steps`: its lines.
    `fate`: CRASHED or HUNG if that is what the kernel did in it, UNREACHED if it was not done to its
    end. `digest`: of what the test said (suite.digest_on)."""

    release: str
    outcome: Outcome | None
    reason: str
    steps: tuple[dict[str, Any], ...] = ()
    fate: str = ""
    digest: str = ""


def release_of(image: Path | None) -> str:
    """The `uname -r` of an image; of the running kernel for None. Raises ModelError for what is no image."""
    return platform.release() if image is None else vm.find(image).release


def kernel_for(release: str) -> str:
    """The name of the model's kernel whose rules a `uname -r` has.

    Raises ModelError if the release is not one of Linux, or not one that the model knows.
    """
    name, why = resolved(release)
    if not why:
        raise ModelError(f"{release!r} is no release of Linux")
    return name


def run_here(
    program: Path, allow_host_settings: bool, seconds: float = SECONDS, heard: Callable[[str], None] = lambda line: None
) -> tuple[str, ...]:
    """The lines of a program on the running kernel; `heard` gets each, also where it is stopped. Raises OutOfTime if it
    does not end in time."""
    command = [str(program), *["--allow-host-settings"][:allow_host_settings]]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509  it only asks libc
    )
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise OutOfTime(f"the program did not end within {seconds:g} s") from None
    finally:
        if process.poll() is None:
            process.terminate()  # it ends its test, and puts settings back
            process.wait()
        lines = _said(process)
        for line in lines:
            heard(line)
    return tuple(lines)


def _said(process: subprocess.Popen[str]) -> list[str]:
    """The lines of a process that has ended; whatever it has started may go on, and keep its output open."""
    said: str | bytes
    try:
        said = process.communicate(timeout=1)[0]
    except subprocess.TimeoutExpired as error:
        said = error.output or b""
    return (said.decode(errors="replace") if isinstance(said, bytes) else said).splitlines()


def run_in(
    vmlinuz: Path, tests: Sequence[Litmus], seconds: float = SECONDS, quiet: float = QUIET,
    heard: Callable[[str], None] = lambda line: None, meanwhile: Callable[[], bool] = lambda: False,
    found: dict[str, Observation] | None = None,
) -> dict[str, Observation]:
    """Test to what the kernel of that image does in it, in as many machines as it takes; for at most so many `seconds`.
    `heard` gets each line that a program prints, `meanwhile` is called while there is none (vm.boot). What was seen
    before something is raised is in `found`.

    Raises ModelError if no machine comes to a test, OutOfTime if the time is over before that.
    """
    machine = vm.find(vmlinuz)
    end = time.monotonic() + seconds
    found = {} if found is None else found
    movable = [test for test in tests if needs_zone(test)]
    if movable and len(movable) < len(tests):
        others = [test for test in tests if not needs_zone(test)]
        for some in (others, movable):
            run_in(vmlinuz, some, max(1.0, end - time.monotonic()), quiet, heard, meanwhile, found)
        return found
    left = list(tests)
    said: list[str] = []

    def on_line(line: str) -> None:
        said.append(line)
        heard(line)

    while left and time.monotonic() < end:
        said.clear()
        with vm.compiled(reproducer.program(left), "tests") as program:
            try:
                done = vm.boot(
                    machine, program, ["--allow-host-settings", "--only-verdicts"], quiet=quiet,
                    seconds=max(1.0, end - time.monotonic()), on_line=on_line, meanwhile=meanwhile,
                    append=vm.MOVABLE if movable else "",
                )
            except KeyboardInterrupt:
                found |= finished(said)
                raise
        seen = observations(done.lines)
        found |= seen
        begun = [test for test in left if test.name in seen]
        if done.ended == "done" or (done.ended == "timeout" and begun):
            break
        if not begun:
            kind = ModelError if done.ended == "panic" else OutOfTime
            raise kind(f"{vmlinuz}: {done.reason.splitlines()[0]}")
        name = begun[-1].name
        fate = CRASHED if done.ended == "panic" else HUNG
        found[name] = replace(seen[name], outcome=None, reason=done.reason.splitlines()[0], fate=fate)
        left = [test for test in left if test.name not in found]
    if left and not found:
        raise OutOfTime(f"{vmlinuz}: the {seconds:g} s were over before the first test")
    return found


def finished(lines: Iterable[str]) -> dict[str, Observation]:
    """As `observations`, of a program that was stopped: without the test that it was at."""
    return {name: seen for name, seen in observations(lines).items() if seen.reason != UNFINISHED}


def observations(lines: Iterable[str]) -> dict[str, Observation]:
    """Test to what its program printed of it; a test that came to no verdict is not observable."""
    release, name = "", ""
    steps: list[dict[str, Any]] = []
    found: dict[str, Observation] = {}
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if "release" in said:
            release = said["release"]
        elif "test" in said:
            name, steps = said["test"], []
            found[name] = Observation(release, None, UNFINISHED)
        elif "step" in said and "verdict" not in said:
            steps.append(said)
        elif "verdict" in said:
            unseen = said["verdict"] == "not observable"
            outcome = None if unseen else Outcome(_bits(said["refused"]), _bits(said["blocked"]), said["condition"])
            found[name] = Observation(release, outcome, said.get("reason", ""), tuple(steps))
    return found


def _bits(mask: int) -> frozenset[int]:
    return frozenset(n + 1 for n in range(mask.bit_length()) if mask >> n & 1)


def observe(
    tests: Sequence[Litmus], images: Sequence[Path | None], *, allow_host_settings: bool = False,
    seconds: float = SECONDS, progress: Callable[[str], None] = lambda what: None, kernel: str = "",
) -> Iterator[list[Observation]]:
    """Kernel by kernel, what it does in each test. An image is booted, None is the running kernel.

    Callers' words are those of `kernel`, one of the model, or of the one that describes the release. Where a kernel
    cannot be run to the end, what is missing is not observable. Raises ModelError for what is no image, and without a
    compiler.
    """
    releases = [release_of(image) for image in images]
    for image, release in zip(images, releases, strict=True):
        progress(str(image or "the running kernel"))
        doable, hopeless = _doable(tests, kernel, release)
        if doable:
            vm.init_program()  # is there a compiler?
        seen: dict[str, Observation] = {}
        try:
            missing = _see(image, doable, allow_host_settings, seconds, seen) if doable else ""
        except KeyboardInterrupt:
            yield _row(tests, release, doable, seen, hopeless, "interrupted before")
            raise
        yield _row(tests, release, doable, seen, hopeless, missing)


def _row(
    tests: Sequence[Litmus], release: str, doable: Sequence[Litmus], seen: Mapping[str, Observation],
    hopeless: Mapping[str, str], missing: str,
) -> list[Observation]:
    """What was seen of each test, or why nothing was; and of which text."""
    done = {test.name: test for test in doable}
    rows = []
    for test in tests:
        found = seen.get(test.name) or Observation(release, None, hopeless.get(test.name, missing))
        late = test.name in done and (test.name not in seen or found.reason == UNFINISHED)
        rows.append(replace(
            found, digest=done.get(test.name, test).digest, fate=found.fate or (UNREACHED if late else "")
        ))
    return rows


def _see(
    image: Path | None, tests: Sequence[Litmus], allow_host_settings: bool, seconds: float,
    found: dict[str, Observation],
) -> str:
    """Put into `found` what the kernel does in tests that a program can do, as far as it comes; why it did not come to
    the others. Raises ModelError without a compiler."""
    if image is not None:
        try:
            run_in(image, tests, seconds, found=found)
        except (ModelError, OutOfTime) as error:
            return str(error)
        return MISSED
    said: list[str] = []
    with vm.compiled(reproducer.program(tests), "tests") as program:
        try:
            run_here(program, allow_host_settings, seconds, said.append)
        except OutOfTime as error:
            return str(error)
        finally:
            found |= finished(said)
    return MISSED


def _doable(tests: Sequence[Litmus], kernel: str, release: str) -> tuple[list[Litmus], dict[str, str]]:
    """The tests that a program can do, as that kernel has them, and of the others why not."""
    doable, hopeless = [], {}
    for test in tests:
        try:
            callers = any(statement.operation.forms for statement in test.statements)
            doable.append(test.on(find_kernel(kernel or kernel_for(release))) if callers else test)
            reproducer.check(doable[-1])
        except NotObservable as error:
            hopeless[doable.pop().name] = str(error)
        except ModelError as error:
            hopeless[test.name] = str(error)
    return doable, hopeless
