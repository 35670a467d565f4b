"""Commands about traces and states: show, explore, retell, export."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model.blame import nearest
from model.features import SPLIT, WORLD
from model.logic import ModelError
from proofs.certify import manifest
from proofs.check import scopes
from proofs.cli.app import (
    JsonOption,
    OwnInvariantOption,
    TextOutOption,
    app,
    asked_invariants,
    give_out,
    named_kernel,
    names_in_options,
    on_terminal,
    own_invariants,
    print_json,
    say_idle,
    write_file,
)
from proofs.cli.examples import epilog
from proofs.errors import OK
from proofs.export import circuits as exports
from proofs.litmus import retell as retelling
from proofs.litmus import suite as suite_tests
from proofs.naming.specs import check_spoken, find_kernel, formula_of, system_of, with_features
from proofs.pages import explorer as explorers
from proofs.pages import server
from proofs.traces import trace as traces
from proofs.traces.render import FORMATS
from proofs.traces.text import to_table


@app.command(epilog=epilog("show"))
def show(
    file: Annotated[Path, typer.Argument(help=(
        "A .trace.json file, or the manifest of a certificate; or the name of a test of the suite, or how it begins."
    ))],
    form: Annotated[str, typer.Option("--format", "-f", help=", ".join(FORMATS))] = "table",
    as_json: JsonOption = False,
    out: TextOutOption = None,
) -> int:
    """Show a trace again, executed anew by the reference interpreter; or a certificate's invariant in words; or a
    litmus test."""
    if not suite_tests.is_file(str(file)) and file.suffix != ".json":
        give_out(_tests(str(file), as_json), out)
        return OK
    form = "itf" if as_json else form
    if form not in FORMATS:
        raise ModelError(f"no format {form!r}{nearest(form, FORMATS)}")
    if manifest.is_manifest(file):
        if form not in ("table", "itf"):
            raise ModelError(f"{file} is a certificate: it is shown in words or, with --json, as data, not as {form}")
        text = manifest.described(file, as_json)
    else:
        trace = traces.read(file, system_of, formula_of)
        fitted = form == "table" and out is None and on_terminal()
        text = to_table(trace, Console().width) if fitted else FORMATS[form](trace)
    give_out(text, out)
    return OK


def _tests(word: str, as_json: bool) -> str:
    """The texts of the tests of that name, or whose names begin so."""
    texts = {name: suite_tests.text_of(name) for name in suite_tests.named(word, suite_tests.known())}
    if as_json:
        tests = [{"litmus": name, "text": text} for name, text in texts.items()]
        return json.dumps({"schema": 1, "tests": tests}, indent=1, ensure_ascii=False)
    return "\n".join(texts.values())


@app.command(epilog=epilog("explore"))
def explore(
    kernel: Annotated[str, typer.Option("--kernel", "-k", help="A kernel, as for check.")],
    scope: Annotated[str, typer.Option(help="As for check.")] = "default",
    world: Annotated[list[str] | None, typer.Option(
        "--with", help=f"Features, with commas between: {', '.join(WORLD)}."
    )] = None,
    split: Annotated[list[str] | None, typer.Option(
        help=f"What is not one step, with commas between: {', '.join(SPLIT)}."
    )] = None,
    path: Annotated[Path | None, typer.Option("--from", help="A trace file: begin where it ends.")] = None,
    serve: Annotated[bool, typer.Option(
        "--serve", help="A page in the browser, on this machine alone; its address is printed. Ctrl-C ends it."
    )] = False,
    invariant: OwnInvariantOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The page's port; 0 is any free one.")] = 0,
    as_json: JsonOption = False,
) -> int:
    """Walk through a kernel's states by hand: what is in use, which claims hold, which steps may be taken."""
    features = (*names_in_options(world, WORLD, "feature"), *names_in_options(split, SPLIT, "sub-steps"))
    kernel = named_kernel(kernel)
    explorer = explorers.Explorer(
        with_features(kernel, features), scopes.scope_named(scope), tuple(i.name for i in own_invariants(invariant))
    )
    say_idle([explorer.kernel])
    start = explorer.path_of(traces.read_json(path)) if path is not None else []
    if not serve:
        if as_json:
            print_json({"schema": 1, "kernel": explorer.kernel, "path": start, **explorer.view(start)})
        else:
            print(explorers.to_text(explorer, start), end="")
        return OK
    with server.server(explorer, start, port) as running:
        if as_json:
            print_json({"schema": 1, "kernel": explorer.kernel, "url": running.url})
        else:
            print(f"{explorer.kernel}: {running.url}\nCtrl-C ends it.")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            running.serve()
        print(file=sys.stderr)
    return OK


@app.command(epilog=epilog("retell"))
def retell(
    file: Annotated[Path, typer.Argument(help="A .trace.json file that `check` or `restrict` wrote.")],
    as_json: JsonOption = False,
    out: TextOutOption = None,
) -> int:
    """Tell a counterexample as a litmus test: operations that end where the claim is broken, and what that shows."""
    trace = traces.read(file, system_of, formula_of)
    retold = retelling.retell(trace, find_kernel(trace.kernel))
    data = {
        "schema": 1, "litmus": retold.litmus.name, "kernel": trace.kernel, "claim": trace.claim, "text": retold.text,
        "condition": retold.litmus.condition_text,
        "witness": [retold.witness.label(number) for number in range(len(retold.witness.steps))],
    }
    give_out(json.dumps(data, indent=1, ensure_ascii=False) if as_json else retold.text, out)
    return OK


@app.command(epilog=epilog("export"))
def export(
    kernel: Annotated[str, typer.Argument(help="A kernel, as for -k.")],
    form: Annotated[str, typer.Option("--format", "-f", help=", ".join(exports.FORMATS))],
    invariant: Annotated[list[str] | None, typer.Option(
        "--invariant", "-i", help="What is claimed: one invariant; for tla as many as wanted, all without it."
    )] = None,
    scope: Annotated[str, typer.Option(help="As for check; tla needs it for the configuration of TLC only.")]
    = "default",
    depth: Annotated[int, typer.Option(min=0, help="For smt2: satisfiable if so many steps break the claim.")] = 5,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=(
        "File to write instead of standard output; for tla the configuration goes beside it."
    ))] = None,
) -> int:
    """Write a kernel and a claim for another program: an SMT solver, a hardware model checker, TLC."""
    if form not in exports.FORMATS:
        raise ModelError(f"no format {form!r}{nearest(form, exports.FORMATS)}")
    if form != "tla" and not invariant:
        raise ModelError(f"say with -i which invariant {form} is to claim")
    kernel = named_kernel(kernel)
    about = find_kernel(kernel)
    stated = [i for i in asked_invariants(invariant) if i.applies_to(about)]
    if form != "tla" and len(stated) > 1:
        raise ModelError(f"{form} has one claim, and these are several: {', '.join(i.name for i in stated)}")
    if not stated:
        raise ModelError(f"{', '.join(invariant or ())} says nothing about {kernel}")
    spec = with_features(kernel, [feature for i in stated for feature in i.features])
    for each in stated:
        check_spoken(each, spec)
    files = exports.written(form, spec, about.about, system_of(spec), scopes.scope_named(scope), stated, depth, out)
    for path, content in files.items() if out is not None else ():
        write_file(path, content)
    first = next(iter(files.values()))
    if as_json:
        print_json({
            "schema": 1, "kernel": spec, "format": form, "invariants": [i.name for i in stated],
            "scope": scopes.scope_named(scope).as_dict(),
            **({"text": first.decode()} if out is None else {"files": [str(path) for path in files]}),
        })
    elif out is None:
        print(first.decode(), end="")
    return OK
