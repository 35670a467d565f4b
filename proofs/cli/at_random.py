"""`conform --random`: tests at random instead of the suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from model.features import WORLD
from model.logic import ModelError
from proofs.cli.app import going_on, names_in_options, print_json, say, writable_folder, write_file
from proofs.cli.progress import progress_bar
from proofs.errors import INCONCLUSIVE, OK, VIOLATION, LimitError
from proofs.hardware import campaign as campaigns
from proofs.hardware import observing, vm
from proofs.hardware.asking import Asking
from proofs.hardware.campaign import Campaign
from proofs.hardware.conform import AGREE

RandomOption = Annotated[int | None, typer.Option("--random", min=1, help=(
    "Instead of the suite, so many tests at random, steered towards rules that none has met; kept, and made smaller "
    "where they differ. Needs --vmlinuz."
))]
SeedOption = Annotated[int, typer.Option(help="With --random: the same seed gives the same tests.")]
WithOption = Annotated[list[str] | None, typer.Option(
    "--with", help=f"With --random: only these features, with commas between, of {', '.join(WORLD)}."
)]
KeepOption = Annotated[Path, typer.Option(help="With --random: the folder for what was asked and for differences.")]


@dataclasses.dataclass(frozen=True)
class Request:
    """What `--random` and the options beside it ask for."""

    number: int
    seed: int
    world: list[str] | None
    keep: Path
    kernel: str
    seconds: float


def ask(request: Request, images: Sequence[Path], as_json: bool) -> int:
    """Ask each kernel, and tell.

    Exit code 1 for a difference that comes each time, 3 if it is not all done, or a kernel showed nothing.
    """
    if not images:
        raise ModelError("--random asks kernels in virtual machines, never the running one: name some with --vmlinuz")
    features = names_in_options(request.world, WORLD, "feature") if request.world else tuple(WORLD)
    machines = [vm.find(image) for image in images]
    writable_folder(request.keep)
    asked: list[Campaign] = []
    whole = True
    with progress_bar() as bar:
        for machine in machines:
            task = bar.add_task(machine.release, total=request.number)
            try:
                asking = Asking(
                    machine.release, partial(observing.run_in, machine.vmlinuz, seconds=request.seconds), request.seed,
                    request.keep, image=vm.digest(machine), kernel=request.kernel, features=features,
                    progress=partial(_show, bar, task),
                )
                asked.append(asking.campaign)
                asking.go(request.number)
            except KeyboardInterrupt:
                say(f"interrupted: what was asked is kept in {request.keep}; {going_on(False)}")
                whole = False
                break
            except (ModelError, LimitError) as error:
                if len(machines) == 1 and not any(each.asked for each in asked):
                    raise
                say(str(error))
                whole = False
    for campaign in asked:
        for name, text in campaigns.files(campaign).items():
            write_file(request.keep / name, text)
    if as_json:
        print_json({
            "schema": 1, "results": [dataclasses.asdict(found) for each in asked for _, found in each.asked],
            "random": [campaigns.to_json(each) for each in asked],
        })
    else:
        print("\n".join(map(campaigns.to_text, asked)), end="")
    if any(each.steady() for each in asked):
        return VIOLATION
    seen = all(any(found.status == AGREE for _, found in each.asked) for each in asked)
    return OK if whole and seen else INCONCLUSIVE


def _show(bar: Progress, task: TaskID, done: int, what: str) -> None:
    bar.update(task, completed=done, description=what)
