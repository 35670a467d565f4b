"""`replay --schedule` and `conform --races`: operations at the same time, in an order that a debugger decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from model.logic import ModelError
from proofs.cli.app import print_json, say, writable_folder, write_file
from proofs.cli.progress import SaidNowAndThen
from proofs.errors import INCONCLUSIVE, OK, VIOLATION, NotObservable
from proofs.hardware import observing, vm
from proofs.hardware.conform import AGREE, DISAGREE
from proofs.hardware.schedule import controls, directory, orders, races, report
from proofs.hardware.schedule.races import Course, Race, RaceRequest
from proofs.litmus.language import Litmus

ScheduleOption = Annotated[bool, typer.Option("--schedule", help=(
    "A debugger decides which of the operations at the same time comes first: in the model's order, then in those "
    "beside it. Needs --vmlinuz."
))]
OrderOption = Annotated[str, typer.Option("--order", help=(
    "With --schedule: the first order instead of the model's, such as '1:read 2:test 1:done 2:done'."
))]
OrdersOption = Annotated[int, typer.Option("--orders", min=1, help="With --schedule or --races: how many orders.")]
RepeatOption = Annotated[int, typer.Option("--repeat", min=1, help="With --schedule: each order so many times.")]
WithoutOption = Annotated[str, typer.Option("--without", help=(
    "With --schedule: a protection that the debugger takes away, so that what it excludes must appear: "
    f"{', '.join(control.name for control in controls.CONTROLS)}."
))]
RacesOption = Annotated[bool, typer.Option("--races", help=(
    "Only tests of operations at the same time, each in several orders that a debugger decides. Needs --vmlinuz."
))]


def ask(
    tests: Sequence[Litmus], images: Sequence[Path], kernel: str, asked: RaceRequest,
    keep: Callable[[Sequence[Race]], None] | None = None, as_json: bool = False,
) -> int:
    """Run the tests on each kernel, hold them against that kernel of the model (empty: against the one that has the
    release's rules), `keep` what was found, and tell. Exit code 1 for a disagreement, 3 for what was not seen."""
    if not images:
        raise ModelError("a debugger decides in virtual machines, not on the running kernel: name some with --vmlinuz")
    releases = [vm.find(image).release for image in images]
    kernels = [kernel or observing.kernel_for(release) for release in releases]
    found: list[Race] = []
    interrupted = False
    heard = partial(_heard, SaidNowAndThen())
    try:
        for image, release, name in zip(images, releases, kernels, strict=True):
            for race in races.raced(tests, image, release, name, asked, heard):
                found.append(race)
                if not as_json:
                    print(report.to_text(race), flush=True)
    except KeyboardInterrupt:
        say("interrupted: what was printed is of the tests that were done")
        interrupted = True
    if keep is not None:
        keep(found)
    if as_json:
        print_json({"schema": 1, "results": report.to_json(found)})
    if any(race.status == DISAGREE for race in found):
        return VIOLATION
    return OK if found and not interrupted and all(race.status == AGREE for race in found) else INCONCLUSIVE


def write_table(found: Sequence[Race], out: Path) -> None:
    """Write what was found as a Markdown table."""
    write_file(out, report.to_markdown(found))


def write_directory(found: Sequence[Race], text: str, out: Path) -> None:
    """Write the race as a folder that can be sent, unless it was not begun; `text`: of its test."""
    for race in found:
        try:
            files = directory.files_of(race, text)
        except NotObservable:
            continue
        folder = writable_folder(out)
        for name, content in files.items():
            write_file(folder / name, content)
        (folder / directory.SCRIPT).chmod(0o755)
        say(f"{out / directory.SCRIPT} KERNEL runs it again")


def _heard(said: SaidNowAndThen, race: Race, course: Course) -> None:
    said(f"{race.test.name} on {race.release}: {orders.shown(course.order)}: {course.seconds:.1f} s")
