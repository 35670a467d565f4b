"""The command line: `python -m proofs`. Exit codes are in EXIT_CODES; bad input is one line on stderr."""

from __future__ import annotations

import dataclasses
import itertools
import json
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from typer.exceptions import TyperException

from invariants import INVARIANTS, Invariant
from model.kernels import KERNELS, Kernel
from model.logic import ModelError, Scope
from model.restrictions import BARE, BASES, RESTRICTIONS, VARIANTS
from proofs import certificate
from proofs import check as checking
from proofs import litmus as litmus_tests
from proofs import prove as proving
from proofs import restrict as restricting
from proofs import trace as traces
from proofs.interpreter import EngineError
from proofs.kernel_file import find_kernel, nearest, system_of
from proofs.render import FORMATS

OK, VIOLATION, USAGE, INCONCLUSIVE, INTERNAL = 0, 1, 2, 3, 4
EXIT_CODES = """
Exit codes: 0 everything asked for holds (without -k and -i: every cell is as the table of expected verdicts says);
1 a violation, a cell other than expected, or a litmus test that is Broken; 2 wrong usage; 3 inconclusive (time, memory,
or an operation outside the model); 4 two engines disagree: a defect of this program, not a result.
"""
ENGINES = ("all", "both", "explore", "bmc", "k-induction", "proof")
LEGEND = {
    "VIOLATED": "V n  VIOLATED: the shortest counterexample has n steps",
    "PROVED": "P n  PROVED for any number of processes, pages, frames, references and slots, by n clauses; "
              "z3 and cvc5 agree",
    "EXHAUSTED": "E    EXHAUSTED: holds in every state of the scope; not proved beyond it",
    "BOUNDED": "B n  BOUNDED: no violation within n steps",
    "UNKNOWN": "?    UNKNOWN: see the notes",
}
SORT_ORDER = ("Proc", "Page", "Frame", "Pin", "Slot")
EXPECTED = Path(__file__).parent / "expected.toml"

app = typer.Typer(
    help="Model checker for copy-on-write and page pinning in Linux." + EXIT_CODES, add_completion=True,
    rich_markup_mode=None, pretty_exceptions_enable=False,
)
KernelOption = Annotated[
    list[str] | None, typer.Option("--kernel", "-k", help=(
        "A kernel by name, or file.py:NAME, or BASE+RESTRICTION+..., bare:KERNEL+RESTRICTION+...; may be repeated."
    ))
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for traces, graphs and results.")]


def _kernels(specs: Sequence[str] | None) -> list[tuple[str, Kernel]]:
    if not specs:
        return [(k.name, k) for k in KERNELS]
    return [(spec, find_kernel(spec)) for spec in dict.fromkeys(specs)]


def _invariants(names: Sequence[str] | None) -> list[Invariant]:
    """Those named; a name may be the first words of several, as `coherence`."""
    if not names:
        return list(INVARIANTS)
    found = []
    for name in names:
        matching = [i for i in INVARIANTS if i.name == name] or [
            i for i in INVARIANTS if i.name.startswith(name + "-")
        ]
        if not matching:
            raise ModelError(f"no invariant {name!r}{nearest(name, [i.name for i in INVARIANTS])}")
        found += matching
    return list(dict.fromkeys(found))


def parse_scope(text: str) -> Scope:
    """A scope by name, or as P,V,F,K,S: numbers of processes, pages, frames, references and swap slots.

    Raises ModelError.
    """
    if text in checking.SCOPES:
        return checking.SCOPES[text]
    parts = text.split(",")
    if len(parts) != len(SORT_ORDER) or not all(p.strip().lstrip("-").isdigit() for p in parts):
        raise ModelError(
            f"scope {text!r} is neither {', '.join(checking.SCOPES)} nor five numbers P,V,F,K,S"
        )
    return Scope((*zip(SORT_ORDER, (int(p) for p in parts), strict=True), ("Value", 1)))


def _progress() -> Progress:
    """A bar on a terminal, silence elsewhere."""
    return Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _more_than_nothing(*limits: float | None) -> None:
    for limit in limits:
        if limit is not None and limit <= 0:
            raise ModelError(f"a time limit is more than 0 seconds, not {limit:g}")


def _writable(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ModelError(f"cannot write to {out}: {error.strerror}") from error
    return out


@app.command(epilog=EXIT_CODES)
def check(
    kernel: KernelOption = None,
    invariant: Annotated[
        list[str] | None, typer.Option("--invariant", "-i", help="An invariant, or the first words of several.")
    ] = None,
    scope: Annotated[str, typer.Option(help="default, medium, large, or P,V,F,K,S.")] = "default",
    engine: Annotated[str, typer.Option(help=(
        "all: exploration and BMC, then a proof for every cell that they do not violate; both: the first two; "
        "or explore, bmc, k-induction, proof."
    ))] = "all",
    depth: Annotated[int, typer.Option(help="Steps BMC follows where exploration found nothing.")] = checking.BMC_DEPTH,
    timeout: Annotated[float | None, typer.Option(help="Seconds for each exploration and each BMC run.")] = None,
    proof_time: Annotated[float, typer.Option(help="Seconds for the search of one proof.")] = proving.SECONDS,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave a rule out, as if nobody did that; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ignore results kept by an earlier run, and all kept certificates.")
    ] = False,
    as_json: JsonOption = False,
    out: OutOption = Path("proofs-out"),
) -> int:
    """Check kernels against invariants: a table of verdicts, and a graph for each violation."""
    if engine not in ENGINES:
        raise ModelError(f"no engine {engine!r}{nearest(engine, ENGINES)}")
    if depth < 0:
        raise ModelError(f"a depth is 0 or more, not {depth}")
    _more_than_nothing(timeout, proof_time)
    kernels, invariants, in_scope = _kernels(kernel), _invariants(invariant), parse_scope(scope)
    rules = {r.name for spec, _ in kernels for r in system_of(spec).rules}
    for name in without or ():
        if name not in rules:
            raise ModelError(f"no rule {name!r}{nearest(name, sorted(rules))}")
    left_out = tuple(sorted(set(without or ())))
    searches = "both" if engine == "all" else engine
    work = checking.jobs(kernels, invariants, in_scope, searches, timeout, depth, left_out)
    if not work:
        raise ModelError(f"{', '.join(i.name for i in invariants)} says nothing about {', '.join(kernel or [])}")
    found: dict[tuple[str, str], checking.Cell] = {}
    try:
        _writable(out)
        with _progress() as bar:
            task = bar.add_task("checking", total=len(work))
            running = checking.run(
                work, out, workers=workers, resume=not fresh,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
            for _, cells in running:
                for cell in cells:
                    found[cell.kernel, cell.invariant] = _with_trace(cell, in_scope, out)
            if engine in ("all", "proof"):
                found |= checking.with_proofs(
                    found.values(), out, without=left_out, fresh=fresh, seconds=proof_time, workers=workers,
                    progress=lambda stage, done, total: bar.update(
                        task, description=stage, completed=done, total=total
                    ),
                )
    except KeyboardInterrupt:
        _tell(f"interrupted: {len(found)} cells done and kept in {out}; the same command goes on from there")
        return INCONCLUSIVE
    ordered = [found[k, i.name] for k, _ in kernels for i in invariants if (k, i.name) in found]
    if as_json:
        _print_json({"schema": 1, "scope": in_scope.as_dict(), "results": [c.public() for c in ordered]})
    else:
        _print_table([k for k, _ in kernels], invariants, found, in_scope, out)
    partial = bool(kernel or invariant or without)
    unexpected = [] if partial else _unexpected(ordered)
    for line in unexpected:
        _tell(line)
    verdicts = {c.verdict for c in ordered}
    if unexpected or (partial and "VIOLATED" in verdicts):
        return VIOLATION
    return INCONCLUSIVE if verdicts & {"UNKNOWN", "BOUNDED"} else OK


def _with_trace(cell: checking.Cell, scope: Scope, out: Path) -> checking.Cell:
    if cell.verdict != "VIOLATED":
        return cell
    pictures = {ending: FORMATS[ending] for ending in ("svg", "dot")}
    return checking.write_trace(cell, scope, out, pictures)


def _unexpected(cells: Iterable[checking.Cell]) -> list[str]:
    """Cells that are violated where the table of expected verdicts has none, or the other way round."""
    expected = tomllib.loads(EXPECTED.read_text(encoding="utf-8"))
    lines = []
    for cell in cells:
        violated = cell.invariant in expected[cell.kernel]["violated"]
        if cell.verdict in ("VIOLATED", "EXHAUSTED", "PROVED") and violated != (cell.verdict == "VIOLATED"):
            wanted = "VIOLATED" if violated else "no violation"
            lines.append(f"{cell.kernel}, {cell.invariant}: {cell.verdict}, but {wanted} was expected")
    return lines


def _mark(cell: checking.Cell | None) -> str:
    if cell is None:
        return "n/a"
    mark = {
        "VIOLATED": f"V {cell.length}", "PROVED": f"P {cell.clauses}", "EXHAUSTED": "E",
        "BOUNDED": f"B {cell.depth}", "UNKNOWN": "?",
    }[cell.verdict]
    return mark + (" (vacuous)" if cell.vacuous else "")


def _print_table(
    kernels: Sequence[str], invariants: Sequence[Invariant], found: dict[tuple[str, str], checking.Cell],
    scope: Scope, out: Path,
) -> None:
    """Rows are kernels, columns invariants; headings are numbers where the names would not fit the terminal."""
    rows = [[k, *(_mark(found.get((k, i.name))) for i in invariants)] for k in kernels]
    heads = [["kernel"], *(i.name.split("-") for i in invariants)]
    if _width(heads, rows) > Console().width and sys.stdout.isatty():
        heads = [["kernel"], *([str(n)] for n in range(1, len(invariants) + 1))]
        for n, i in enumerate(invariants, 1):
            print(f"{n:3} {i.name}")
        print()
    _print_columns(heads, rows)
    shown = [c for c in found.values() if c.states]
    print()
    verdicts = {c.verdict for c in found.values()}
    for verdict, meaning in LEGEND.items():
        if verdict in verdicts:
            print(meaning)
    sizes = scope.as_dict()
    print("Scope: " + ", ".join(f"{sizes[s]} {s.lower()}{'s' * (sizes[s] > 1)}" for s in SORT_ORDER) + ".", end=" ")
    if shown:
        largest = max(shown, key=lambda c: c.states or 0)
        counts = f"{largest.states:,} states up to renaming of frames, {largest.transitions:,} steps"
        print(f"Largest exploration: {counts}.")
    else:
        print()
    violated = [c for c in found.values() if c.verdict == "VIOLATED"]
    if violated:
        print(f"{len(violated)} counterexamples under {out}: .trace.json, .svg and .dot for each;"
              " `python -m proofs show FILE` prints one.")
    for note in sorted({f"{c.kernel}, {c.invariant}: {c.note}" for c in found.values() if c.note}):
        print(note)
    for line in _dead_rules(list(found.values())):
        print(line)


def _dead_rules(cells: Sequence[checking.Cell]) -> list[str]:
    """Rules of which a kernel's verdicts say nothing: for PROVED cells their guard contradicts what is proved, for
    EXHAUSTED ones they fired in none of the complete explorations."""
    told = []
    for verdict, what in (("PROVED", "Dead, the guard contradicts what is proved"),
                          ("EXHAUSTED", "Vacuous, never enabled in this scope")):
        dead: dict[str, set[str]] = {}
        for cell in cells:
            if cell.verdict == verdict:
                dead[cell.kernel] = dead.get(cell.kernel, set(cell.dead_rules)) & set(cell.dead_rules)
        by_rules: dict[str, list[str]] = {}
        for kernel, rules in dead.items():
            if rules:
                by_rules.setdefault(", ".join(sorted(rules)), []).append(kernel)
        told += [f"{what}: {rules} ({', '.join(names)})" for rules, names in by_rules.items()]
    return told


def _widths(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> list[int]:
    return [
        max(len(text) for text in [*head, *(row[i] for row in rows)]) for i, head in enumerate(heads)
    ]


def _width(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> int:
    return sum(_widths(heads, rows)) + 2 * (len(heads) - 1)


def _print_columns(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> None:
    """A table; each heading is a list of lines."""
    widths = _widths(heads, rows)
    head_rows = itertools.zip_longest(*heads, fillvalue="")
    for row in [*head_rows, ["-" * w for w in widths], *rows]:
        print("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip())


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=1, ensure_ascii=False))


@app.command(epilog=EXIT_CODES)
def show(
    file: Annotated[Path, typer.Argument(help="A .trace.json file, or the manifest of a certificate.")],
    form: Annotated[str, typer.Option("--format", "-f", help=", ".join(FORMATS))] = "table",
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write instead of standard output.")] = None,
) -> int:
    """Show a trace again, executed anew by the reference interpreter; or the invariant of a certificate in words."""
    form = "itf" if as_json else form
    if form not in FORMATS:
        raise ModelError(f"no format {form!r}{nearest(form, FORMATS)}")
    if certificate.is_manifest(file):
        text = certificate.described(file, as_json)
    else:
        text = FORMATS[form](traces.read(file, system_of, checking.formula_of))
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
        return OK
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ModelError(f"cannot write {out}: {error.strerror}") from error
    return OK


@app.command(epilog=EXIT_CODES)
def litmus(
    files: Annotated[list[Path], typer.Argument(help="Litmus tests; docs/litmus.md has the language.")],
    kernel: KernelOption = None,
    as_json: JsonOption = False,
    out: OutOption = Path("proofs-out"),
) -> int:
    """Answer litmus tests: Allowed or Forbidden, Holds or Broken, per kernel, with a shortest trace."""
    tests = [litmus_tests.read(f) for f in files]
    kernels = _kernels(kernel)
    folder = _writable(out) / "litmus"
    folder.mkdir(exist_ok=True)
    rows = []
    for test in tests:
        for spec, each in kernels:
            result = litmus_tests.answer(test, each, system_of(spec))
            path = None
            if result.trace is not None:
                path = folder / f"{test.name}.{checking.file_name(spec)}.trace.json"
                # The name by which the kernel is found again, which for a user's file is not its own.
                traces.write(dataclasses.replace(result.trace, kernel=spec), path)
            rows.append({
                "litmus": test.name, "kernel": spec, "answer": str(result.answer),
                "trace": None if path is None else str(path), "reason": result.reason,
            })
    if as_json:
        _print_json({"schema": 1, "results": rows})
    else:
        _print_answers([t.name for t in tests], [k for k, _ in kernels], rows)
    answers = {r["answer"] for r in rows}
    if "Broken" in answers:
        return VIOLATION
    return INCONCLUSIVE if "UNKNOWN" in answers else OK


def _print_answers(names: Sequence[str], kernels: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    answers = {(r["litmus"], r["kernel"]): r["answer"] for r in rows}
    _print_columns(
        [["kernel"], *(n.split("-") for n in names)], [[k, *(answers[n, k] for n in names)] for k in kernels]
    )
    for reason in dict.fromkeys(f"{r['litmus']}, {r['kernel']}: {r['reason']}" for r in rows if r["reason"]):
        print(reason)


@app.command(epilog=EXIT_CODES)
def verify(
    folder: Annotated[Path | None, typer.Argument(
        help="A folder of certificates, or one manifest; without it, those of the default table that come along."
    )] = None,
    solver: Annotated[list[str] | None, typer.Option(
        help="z3, cvc5, or a command that gets a file's path and prints unsat; may be repeated. Default: z3 and cvc5."
    )] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each solver and file.")] = 60,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    as_json: JsonOption = False,
) -> int:
    """Check certificates: each is the proof that it says it is, of the model as it is now, and every solver says so."""
    given = proving.SHIPPED if folder is None else folder
    if not given.exists():
        raise ModelError(f"no folder or manifest {given}")
    started = time.monotonic()
    with _progress() as bar:
        task = bar.add_task("verifying")
        checked = certificate.verify(
            given if given.is_dir() else [given], solver or certificate.BUILT_IN, timeout, workers,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        _print_json({"schema": 1, "results": [dataclasses.asdict(c) for c in checked]})
    else:
        counts = {v: sum(c.verdict == v for c in checked) for v in ("accepted", "refused", "unconfirmed")}
        for c in checked:
            less = f" without {', '.join(c.without)}" if c.without else ""
            if less or not c.accepted:
                print(f"{c.kernel}{less}, {c.invariant}: {c.verdict}{': ' * bool(c.reason)}{c.reason}")
        told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
        names = " and ".join(solver or certificate.BUILT_IN)
        print(f"{told}, {sum(c.obligations for c in checked)} obligations by {names}, "
              f"{time.monotonic() - started:.0f} s")
    verdicts = {c.verdict for c in checked}
    if "refused" in verdicts:
        return VIOLATION
    return INCONCLUSIVE if "unconfirmed" in verdicts else OK


@app.command(epilog=EXIT_CODES)
def restrict(
    invariant: Annotated[str, typer.Option("--invariant", "-i", help="What is to hold.")],
    base: Annotated[str | None, typer.Option(help=f"A reuse rule: {', '.join(BASES)}.")] = None,
    kernel: Annotated[str | None, typer.Option(
        "--kernel", "-k", help="Instead of a base: this kernel's reuse rule, its restrictions cleared."
    )] = None,
    variants: Annotated[bool, typer.Option(
        help=f"Also with each set of: {', '.join(v.name for v in VARIANTS)}."
    )] = True,
    proof_time: Annotated[float, typer.Option(help="Seconds for the search of one proof.")] = proving.SECONDS,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore results kept by an earlier run.")] = False,
    as_json: JsonOption = False,
    out: OutOption = Path("proofs-out"),
) -> int:
    """All minimal sets of restrictions that make an invariant hold, proved, and all maximal sets that do not."""
    if (base is None) == (kernel is None):
        raise ModelError("say either --base or --kernel")
    if base is not None and base not in BASES:
        raise ModelError(f"no base {base!r}{nearest(base, BASES)}")
    _more_than_nothing(proof_time)
    (stated,) = _one_invariant(invariant)
    spec = base or BARE + str(kernel)
    if not stated.applies_to(find_kernel(spec)):
        raise ModelError(f"{stated.name} says nothing about {spec}")
    _writable(out)
    try:
        with _progress() as bar:
            task = bar.add_task("deciding")
            found = restricting.restrict(
                spec, stated.name, out, variants=[v.name for v in VARIANTS if variants], seconds=proof_time,
                workers=workers, fresh=fresh,
                progress=lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
            )
    except KeyboardInterrupt:
        _tell(f"interrupted: what is decided is kept in {out}; the same command goes on from there")
        return INCONCLUSIVE
    name = f"restrict-{checking.file_name(spec)}-{stated.name}"
    for ending, render in (("dot", restricting.to_dot), ("mmd", restricting.to_mermaid)):
        (out / f"{name}.{ending}").write_text(render(found), encoding="utf-8")
    if as_json:
        _print_json(restricting.to_json(spec, stated.name, found))
    else:
        print(f"{spec}, {stated.name}: {stated.statement}", *restricting.to_text(found), "", sep="\n")
        print(f"Traces and certificates under {out}; the lattices as graphs: {out / name}.dot and .mmd")
    return INCONCLUSIVE if any(c.undecided for c in found) else OK


def _one_invariant(name: str) -> list[Invariant]:
    found = _invariants([name])
    if len(found) > 1:
        raise ModelError(f"{name!r} is several invariants: {', '.join(i.name for i in found)}")
    return found


@app.command("list", epilog=EXIT_CODES)
def list_(
    kernel: KernelOption = None,
    as_json: JsonOption = False,
) -> int:
    """List kernels, invariants and rules, each with its meaning and source; with -k, that kernel's decisions."""
    kernels = _kernels(kernel)
    rules: dict[str, dict[str, Any]] = {}
    for spec, each in kernels:
        for rule in system_of(spec).rules:
            entry = rules.setdefault(rule.name, {
                "name": rule.name, "about": " ".join(rule.about.split()), "kernel_function": rule.kernel_function,
                "source": rule.source, "kind": rule.kind, "kernels": [],
            })
            entry["kernels"].append(each.name)
    data = {
        "schema": 1,
        "kernels": [{"name": k.name, "about": k.about, "base": k.base, "cite": dict(k.cite),
                     "decisions": k.decisions()} for _, k in kernels],
        "invariants": [{"name": i.name, "statement": i.statement, "source": i.source} for i in INVARIANTS],
        "rules": list(rules.values()),
        "restrictions": [{"name": r.name, "about": r.about, "source": r.source} for r in RESTRICTIONS],
        "variants": [{"name": r.name, "about": r.about, "source": r.source} for r in VARIANTS],
    }
    if as_json:
        _print_json(data)
        return OK
    print("Kernels")
    for _, k in kernels:
        print(f"  {k.name:17} {k.about}" + (f" [from {k.base}]" if k.base else ""))
        for what, commit in k.cite:
            print(f"  {'':17}   {what}: {commit}")
        if kernel:
            for decision, value in k.decisions().items():
                print(f"  {'':17}   {decision} = {value}")
    print("\nInvariants")
    for i in INVARIANTS:
        print(f"  {i.name:23} {i.statement} [{i.source}]")
    print("\nRules")
    for entry in rules.values():
        print(f"  {entry['name']:26} {entry['about']} [{entry['kernel_function']}; {entry['source']}]")
    for title, switches in (("Restrictions", RESTRICTIONS), ("Variants", VARIANTS)):
        print(f"\n{title}, as in -k page-count+fork-early-copy or bare:v5.18+swap-out-refuse")
        for r in switches:
            print(f"  {r.name:17} {r.about} [{r.source}]")
    return OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if threading.current_thread() is threading.main_thread():
        # Ended by `timeout` or a job control, we end our workers as after Ctrl-C.
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        result = app(args=given or ["--help"], standalone_mode=False, prog_name="python -m proofs")
    except TyperException as error:
        return _complain(error.format_message(), USAGE)
    except (typer.Abort, KeyboardInterrupt):
        return _complain("interrupted", INCONCLUSIVE)
    except EngineError as error:
        return _complain(f"internal error: {error}", INTERNAL)
    except ModelError as error:
        return _complain(str(error), USAGE)
    except BrokenProcessPool:
        return _complain("a worker process was killed, probably for want of memory; try a smaller scope", INCONCLUSIVE)
    except BrokenPipeError:
        return OK
    except OSError as error:
        return _complain(f"cannot write {error.filename}: {error.strerror}", USAGE)
    return int(result or 0)


def _tell(message: str) -> None:
    print(f"proofs: {' '.join(message.split())}", file=sys.stderr)


def _complain(message: str, code: int) -> int:
    _tell(message)
    return code
