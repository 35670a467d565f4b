"""Commands about a kernel's source: source read, source check, source diff."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from invariants import INVARIANTS
from model.features import SPLIT, WORLD
from model.kernels import differing
from model.logic import ModelError
from proofs.check.cells import Cell
from proofs.check.tables import verdicts
from proofs.cli.app import (
    JsonOption,
    OutOption,
    app,
    complain,
    completed_invariants,
    names_in_options,
    print_columns,
    print_json,
    say,
    say_idle,
    writable_folder,
    write_file,
)
from proofs.cli.examples import epilog
from proofs.cli.progress import progress_bar
from proofs.cli.tables import check as check_table
from proofs.cli.tests import diff as diff_kernels
from proofs.clock import check_time
from proofs.errors import INCONCLUSIVE, OK, VIOLATION, Interrupted, RetellError
from proofs.litmus import retell as retelling
from proofs.naming.specs import find_kernel, formula_of, system_of
from proofs.source import shown
from proofs.source.csource import Tree, configuration
from proofs.source.findings import NOT_READ
from proofs.source.patch import applied, left_alone
from proofs.source.survey import SECONDS, Reading, kernel_text, shown_configured, survey
from proofs.traces import trace as traces

group = typer.Typer(help="Read a kernel's source: its decisions, and verdicts about it.", rich_markup_mode=None)
app.add_typer(group, name="source")

TreeArgument = Annotated[Path, typer.Argument(help="A kernel's source tree, or what tools/fetch-sources has of it.")]
ConfigOption = Annotated[Path | None, typer.Option(
    "--config", help="The kernel's .config, for #if; without it, as Debian configures its amd64 kernels."
)]
TimeOption = Annotated[float, typer.Option("--time", help=(
    "Seconds for reading one decision: what is not read by then is left as the nearest kernel has it, and told."
))]
PatchOption = Annotated[Path | None, typer.Option("--patch", help="A unified diff; the tree itself is left alone.")]


@group.command("read", epilog=epilog("source read"))
def read(
    tree: TreeArgument, config: ConfigOption = None, patch: PatchOption = None,
    kernel: Annotated[Path | None, typer.Option(help="Also write the kernel that was read, as a file for -k.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also say where each decision was found.")] = False,
    seconds: TimeOption = SECONDS,
    as_json: JsonOption = False,
) -> int:
    """What a tree decides, beside the kernel of the model that is nearest to it."""
    check_time(seconds)
    stopped = ""
    try:
        reading = _surveyed(tree, config, patch, seconds)
    except Interrupted as error:
        reading, kernel = error.so_far, None
        stopped = "interrupted: what was not come to is not read, and no kernel is written"
    if kernel is not None:
        write_file(kernel, kernel_text(reading, _about(reading)))
    if as_json:
        print_json(shown.to_json(reading) | ({"stopped": stopped} if stopped else {}))
    else:
        _print(reading, verbose)
        if kernel is not None:
            print(f"{kernel}: python -m proofs check -k {kernel}:READ -k {reading.nearest.name}")
    if stopped:
        return complain(stopped, INCONCLUSIVE)
    return INCONCLUSIVE if any(row.status == NOT_READ for row in (*reading.rows, *reading.granted)) else OK


@group.command("check", epilog=epilog("source check"))
def check(
    tree: TreeArgument, config: ConfigOption = None, patch: PatchOption = None,
    invariant: Annotated[list[str] | None, typer.Option(
        "--invariant", "-i", autocompletion=completed_invariants, help="An invariant, as for check; may be repeated."
    )] = None,
    world: Annotated[list[str] | None, typer.Option("--with", help="Features, as for check.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="What is not one step, as for check.")] = None,
    scope: Annotated[str, typer.Option(help="As for check.")] = "default",
    engine: Annotated[str, typer.Option(help="As for check.")] = "all",
    timeout: Annotated[float | None, typer.Option(help="Seconds for each exploration and each BMC run.")] = None,
    seconds: TimeOption = SECONDS,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    as_json: JsonOption = False,
    out: OutOption = Path("proofs-out"),
) -> int:
    """The table of verdicts of the kernel that was read; with --patch before and after, and what tells them apart."""
    check_time(timeout, seconds)
    readings = [_surveyed(tree, config, each, seconds) for each in (None, *([patch] if patch is not None else []))]
    folder = writable_folder(out)
    made = [kernel_of(reading, folder) for reading in readings]
    specs = [spec for spec, _ in made]
    unread = any(reading.outside() for reading in readings) or any(left for _, left in made)
    records = [record_of(reading, *each, folder) for reading, each in zip(readings, made, strict=True)]
    if as_json:
        names = [*names_in_options(world, WORLD, "feature"), *names_in_options(split, SPLIT, "sub-steps")]
        cells = verdicts(dict.fromkeys(specs), invariant or INVARIANTS, features=names, scope=scope, engine=engine,
                         timeout=timeout, out=out, workers=workers)
        say_idle(cell.kernel for cell in cells)
        print_json(_checked(readings, made, cells))
        return _code({cell.verdict for cell in cells}, unread)
    for reading, (spec, left), record, when in zip(readings, made, records, ("before", "after"), strict=False):
        print(f"{when + ': ' if patch is not None else ''}Linux {reading.version}, {reading.digest}: {spec}")
        print("\n".join([*shown.told(reading), *left]))
        print(f"Verdicts on {spec} are of that tree as far as {record} says: hashes, functions, lines.\n")
    earlier = _traces(out, specs)
    code = check_table(
        None, kernel=list(dict.fromkeys(specs)), invariant=invariant, world=world, split=split, scope=scope,  # type: ignore[arg-type]
        engine=engine,
        timeout=timeout, workers=workers, out=out,
    )
    _print_tests(path for path, written in _traces(out, specs).items() if earlier.get(path) != written)
    if patch is not None:
        print("\nThe patch: " + ("it changes no decision." if specs[0] == specs[1] else "what it changes."))
        if specs[0] != specs[1]:
            diff_kernels(specs[0], specs[1], depth=4, each=1, seconds=60, out=out)
    return INCONCLUSIVE if unread and code == OK else code


def _checked(
    readings: Sequence[Reading], made: Sequence[tuple[str, list[str]]], cells: Sequence[Cell]
) -> dict[str, Any]:
    """What `source check --json` prints: the trees, the kernels read from them, verdicts, counterexamples as tests."""
    tests = []
    for cell in cells:
        if cell.trace is not None:
            told = _test(Path(cell.trace))
            tests.append({"kernel": cell.kernel, "invariant": cell.invariant, "trace": cell.trace,
                          "litmus": told if isinstance(told, str) else None,
                          "why": "" if isinstance(told, str) else str(told)})
    return {
        "schema": 1,
        "trees": [{**shown.to_json(reading), "kernel": spec, "left": left}
                  for reading, (spec, left) in zip(readings, made, strict=True)],
        "results": [cell.public() for cell in cells], "tests": tests,
        "changed": list(differing(*(find_kernel(spec) for spec, _ in made))) if len(made) == 2 else [],
    }


def _code(verdicts: Collection[str], unread: bool) -> int:
    if "VIOLATED" in verdicts:
        return VIOLATION
    return INCONCLUSIVE if unread or {"UNKNOWN", "BOUNDED"} & set(verdicts) else OK


@group.command("diff", epilog=epilog("source diff"))
def diff(
    a: TreeArgument, b: Annotated[Path, typer.Argument(help="Another tree.")], config: ConfigOption = None,
    depth: Annotated[int, typer.Option(help="Operations in a litmus test that is sought; 0: none is.")] = 4,
    seconds: Annotated[float | None, typer.Option("--time", help="Seconds for the search of tests.")] = 60,
    as_json: JsonOption = False, out: OutOption = Path("proofs-out"),
) -> int:
    """Which decisions differ between two trees, as formulas and as litmus tests."""
    check_time(seconds)
    readings = [_surveyed(tree, config, None, SECONDS) for tree in (a, b)]
    pairs = [(x, y) for x, y in zip(*(r.rows for r in readings), strict=True) if _unlike(x.finding, y.finding)]
    unread = [x.decision for x, y in zip(*(r.rows for r in readings), strict=True)
              if NOT_READ in (x.status, y.status)]
    if as_json:
        print_json({"schema": 1, "trees": [shown.to_json(r) for r in readings], "not_read": unread,
                    "differing": [x.decision for x, _ in pairs]})
    else:
        heads = [["decision"], *([f"{r.version}"] for r in readings)]
        print_columns(heads, [[x.decision, *(_short(row.reads) for row in (x, y))] for x, y in pairs])
        for x, y in pairs:
            for reading, row in zip(readings, (x, y), strict=True):
                print(f"{x.decision}, {reading.version}: {'; '.join(row.finding.where) or row.finding.why}")
                if row.finding.words:
                    print(f"  {row.finding.words}")
        for decision in unread:
            print(f"{decision} is not read in both")
    if depth and pairs and not as_json:
        folder = writable_folder(out)
        specs = [kernel_of(reading, folder)[0] for reading in readings]
        if specs[0] != specs[1]:
            print()
            diff_kernels(specs[0], specs[1], depth=depth, each=1, seconds=seconds, out=out)
    return VIOLATION if pairs else INCONCLUSIVE if unread else OK


def _surveyed(root: Path, config: Path | None, patch: Path | None, seconds: float) -> Reading:
    """Read a tree, patched or not. Raises Interrupted as `survey`, ModelError if it is none, or the patch does not
    apply."""
    said = configuration(config)
    tree = Tree(root, said)
    if patch is not None:
        tree = Tree(root, said, applied(tree, patch))
        if others := left_alone(patch):
            say(f"{patch} also changes {', '.join(others)}: of these files nothing is read")
    with progress_bar() as bar:
        task = bar.add_task("reading")
        return survey(
            tree, lambda decision, done, of: bar.update(task, description=decision, completed=done, total=of), seconds
        )


def _about(reading: Reading) -> str:
    commit = f"commit {reading.commit}, " if reading.commit else ""
    of = f"{commit}files {reading.digest}{shown_configured(reading)}"
    return f"what Linux {reading.version} decides, read from its source ({of})"


def record_of(reading: Reading, spec: str, left: list[str], folder: Path) -> Path:
    """Write of what a verdict about that kernel is: the tree, the hash of each file, functions and lines."""
    path = folder / f"{reading.name}.source.json"
    write_file(path, json.dumps({**shown.to_json(reading), "kernel": spec, "left": left}, indent=1) + "\n")
    return path


def kernel_of(reading: Reading, folder: Path) -> tuple[str, list[str]]:
    """The name of the kernel that was read: the nearest one's if it is that, else that of a file which is written.

    And a line for each decision that the rules of the model do not go with, so that it is left as the nearest has it.
    """
    if not reading.replaced() and not reading.lapses():
        return reading.nearest.name, []
    path = folder / f"{reading.name}.py"
    own = [row.decision for row in reading.replaced() if not row.finding.values]
    lines: list[str] = []
    for left in ([], *([each] for each in own), own):
        write_file(path, kernel_text(reading, _about(reading), left=left))
        try:
            system_of(f"{path}:READ")
        except ModelError as error:
            lines = lines or [f"The model's rules do not go with what was read: {error}"]
        else:
            said = f"Left as {reading.nearest.name} has it: {', '.join(left)}."
            return f"{path}:READ", [*lines, said] if left else []
    return reading.nearest.name, [*lines, f"All is left as {reading.nearest.name} has it."]


def _print(reading: Reading, verbose: bool) -> None:
    of = f"files that are read: {reading.digest}{shown_configured(reading)}"
    print(f"Linux {reading.version} in {reading.root} ({of}), beside {reading.nearest.name}\n")
    print_columns([["decision"], [""], ["this tree"], [reading.nearest.name], ["found"]], shown.rows_of(reading))
    print()
    print("\n".join(shown.told(reading, verbose)))


def _traces(out: Path, specs: list[str]) -> dict[Path, int]:
    """The counterexamples of kernels that were read that lie there, and when each was written."""
    names = [spec.partition(".py:")[0].rpartition("/")[2] for spec in specs if ".py:" in spec]
    return {
        path: path.stat().st_mtime_ns for name in names for path in sorted(out.glob(f"**/*{name}*/*.trace.json"))
    }


def _print_tests(written: Iterable[Path]) -> None:
    """Counterexamples as litmus tests, where one tells them."""
    for path in written:
        told = _test(path)
        how = f"as a litmus test:\n\n{told}" if isinstance(told, str) else f"is no litmus test: {told}"
        print(f"\n{path} {how}")


def _test(path: Path) -> str | RetellError:
    """The counterexample as a litmus test, or why none tells it."""
    trace = traces.read(path, system_of, formula_of)
    try:
        return retelling.retell(trace, find_kernel(trace.kernel)).text
    except RetellError as error:
        return error


def _unlike(a: Any, b: Any) -> bool:
    """Two findings that are no finding of one value."""
    if not (a.decided and b.decided):
        return False
    if a.values and b.values:
        return not any(a.has(v) for v in b.values)
    return (a.words or a.why, a.values) != (b.words or b.why, b.values)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


