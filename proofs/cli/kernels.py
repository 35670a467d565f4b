"""Commands about what there is and for what one adds: list, new-kernel, new-invariant."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from invariants import FURTHER as FURTHER_INVARIANTS
from invariants import INVARIANTS
from model.all_rules import ALL_RULES
from model.blame import close, place_of
from model.features import FEATURES, SPLIT, WORLD
from model.kernels import FURTHER, KERNELS, Kernel, asked_of
from model.logic import ModelError, RuleTemplate
from model.restrictions import RESTRICTIONS, VARIANTS, Restriction
from proofs.cli import start as starting
from proofs.cli.app import (
    JsonOption,
    KernelOption,
    app,
    asked_kernels,
    completed_kernels,
    named_kernel,
    print_json,
    print_prose,
    write_file,
)
from proofs.cli.examples import epilog
from proofs.errors import OK
from proofs.naming.specs import system_of
from proofs.pages import domain


@app.command("new-kernel", epilog=epilog("new-kernel"))
def new_kernel(
    file: Annotated[Path, typer.Argument(help="The Python file to write.")],
    base: Annotated[str, typer.Option("--from", help="The kernel to start from.", autocompletion=completed_kernels)]
    = "v5.9",
    name: Annotated[str, typer.Option(help="Its name in the file.")] = "MINE",
    as_json: JsonOption = False,
) -> int:
    """Write a commented file with a kernel of one's own to start from."""
    base = named_kernel(base)
    _start(file, name, starting.starting_file(base, str(file), name))
    if as_json:
        print_json({"schema": 1, "file": str(file), "kernel": f"{file}:{name}", "base": base})
    else:
        print(f"{file}: python -m proofs check -k {file}:{name} -k {base}")
    return OK


def _start(file: Path, name: str, text: str) -> None:
    """Write a file to start from. Raises ModelError for one that is there already, or names that Python has not."""
    if file.suffix != ".py" or not name.isidentifier() or keyword.iskeyword(name):
        raise ModelError(f"a Python file and a Python name are wanted, as mine.py and MINE, not {file} and {name}")
    if file.exists():
        raise ModelError(f"{file} is there already")
    write_file(file, text)


@app.command("new-invariant", epilog=epilog("new-invariant"))
def new_invariant(
    file: Annotated[Path, typer.Argument(help="The Python file to write.")],
    name: Annotated[str, typer.Option(help="Its name in the file.")] = "PROMISE",
    as_json: JsonOption = False,
) -> int:
    """Write a commented file with an invariant of one's own to start from."""
    _start(file, name, starting.starting_invariant(str(file), name))
    if as_json:
        print_json({"schema": 1, "file": str(file), "invariant": f"{file}:{name}"})
    else:
        print(f"{file}: python -m proofs check -i {file}:{name}")
    return OK


@app.command("list", epilog=epilog("list"))
def list_(
    names: Annotated[list[str] | None, typer.Argument(
        metavar="NAME", help="With --functions: only these kernel functions."
    )] = None,
    kernel: KernelOption = None,
    functions: Annotated[bool, typer.Option("--functions", help=(
        "Kernel functions, system calls and ioctls, and the rules made of each; with -k, that kernel's rules."
    ))] = False,
    as_json: JsonOption = False,
) -> int:
    """List kernels, invariants and rules, each with its meaning and source; with -k, that kernel's decisions."""
    if functions:
        return _list_functions(kernel, names or (), as_json)
    if names:
        raise ModelError(f"names are of kernel functions: list --functions {' '.join(names)}")
    kernels = asked_kernels(kernel) if kernel else [(k.name, k) for k in (*KERNELS, *FURTHER)]
    if not as_json:
        if kernel:
            _print_decisions([k for _, k in kernels])
        else:
            _print_list()
        return OK
    rules: dict[str, dict[str, Any]] = {}
    for spec, each in kernels:
        for template in _templates(spec, each):
            entry = rules.setdefault(template.name, {
                "name": template.name, "about": _about(template),
                "kernel_function": template.kernel_function, "source": template.source,
                "places": domain.places(template.source), "kind": template.kind,
                "features": sorted(template.features), "split": sorted(template.split), "kernels": [],
            })
            entry["kernels"].append(each.name)
    print_json({
        "schema": 1,
        "kernels": [{"name": k.name, "about": k.about, "base": k.base, "cite": dict(k.cite),
                     "places": _places_of_kernel(k), "decisions": k.decisions()} for _, k in kernels],
        "invariants": [
            {"name": i.name, "statement": i.statement, "source": i.source, "places": domain.places(i.source),
             "features": list(i.features)}
            for i in (*INVARIANTS, *FURTHER_INVARIANTS)
        ],
        "rules": list(rules.values()),
        "features": [{"name": n, "about": about, "split": n in SPLIT} for n, about in FEATURES.items()],
        "restrictions": [_switch_data(r) for r in RESTRICTIONS],
        "variants": [_switch_data(r) for r in VARIANTS],
    })
    return OK


def _print_decisions(kernels: Sequence[Kernel]) -> None:
    """Print what these kernels decide, and where the reference of facts has it."""
    print("Kernels")
    for k in kernels:
        _print_kernel(k)
        for decision, value in k.decisions().items():
            _print_row("", 17, f"  {decision} = {value}")
        for template in k.own_rules:
            cited = f"[{template.kernel_function}; {template.source}]"
            _print_row("", 17, f"  rule {template.name}: {_about(template)} {cited}")
        if anchor := domain.anchor_of(k.name):
            _print_row("", 17, f"  {domain.NAME}#{anchor}")
    print()
    print_prose(f"`python -m proofs list` has invariants and rules, with --functions -k KERNEL a kernel's; a decision "
                f"has a place of its name in {domain.NAME}, as #reuse.")


def _print_row(name: str, room: int, text: str) -> None:
    """A name and what is said of it, which goes on below where it began."""
    print_prose(f"  {name:{room}} {text}", " " * (room + 3 + 2 * text.startswith("  ")))


def _print_kernel(kernel: Kernel) -> None:
    _print_row(kernel.name, 17, kernel.about + (f" [from {kernel.base}]" if kernel.base else ""))
    for what, commit in kernel.cite:
        _print_row("", 17, f"  {what}: {commit}")


def _print_list() -> None:
    """Print what there is."""
    print("Kernels")
    for k in (*KERNELS, *FURTHER):
        _print_kernel(k)
    print("\nInvariants")
    for i in (*INVARIANTS, *FURTHER_INVARIANTS):
        _print_row(i.name, 23, f"{i.statement} [{i.source}]" + _needing(i.features))
    print("\nRules")
    for t in ALL_RULES:
        _print_row(t.name, 26, f"{_about(t)} [{t.kernel_function}; {t.source}]{_needing(sorted(t.features))}")
    for title, features in (("Features, as in -k v5.9@huge,ksm or --with huge,ksm", WORLD),
                            ("Sub-steps, as in -k v5.9@gup-fast or --split gup-fast", SPLIT)):
        print(f"\n{title}")
        for name, about in features.items():
            _print_row(name, 17, about)
    for title, switches in (("Restrictions", RESTRICTIONS), ("Variants", VARIANTS)):
        print(f"\n{title}, as in -k page-count+fork-early-copy or bare:v5.18+swap-out-refuse")
        for r in switches:
            _print_row(r.name, 17, f"{r.about} [{r.source}]")


def _list_functions(specs: Sequence[str] | None, names: Sequence[str], as_json: bool) -> int:
    """Print kernel functions and the rules that cite them. Raises ModelError for a function that none cites."""
    templates = {t.name: t for spec, each in asked_kernels(specs) for t in _templates(spec, each)} if specs else {
        t.name: t for t in ALL_RULES
    }
    index = _by_function(templates.values())
    for name in names:
        if name not in index:
            hint = close(name, index) or "; list --functions has them all"
            raise ModelError(f"no rule cites a kernel function {name!r}{hint}")
    cited = {t.name for rules in index.values() for t in rules}
    without = [] if names else [name for name in templates if name not in cited]
    shown = {name: index[name] for name in (dict.fromkeys(names) if names else index)}
    if as_json:
        print_json({"schema": 1, "functions": [
            {"name": name, "rules": [
                {"name": t.name, "place": _place_of_rule(t), "kernel_function": t.kernel_function, "source": t.source}
                for t in rules
            ]} for name, rules in shown.items()
        ], "without": without})
        return OK
    for name, rules in shown.items():
        print(name)
        for t in rules:
            print(f"  {t.name:26} {_place_of_rule(t):22} {t.kernel_function}")
    if without:
        print(f"\nRules that cite none: {', '.join(without)}")
    return OK


_FUNCTION = re.compile(
    r"\bUFFDIO_[A-Z]+\b"
    r"|\b[a-z_]\w*_\w+\b"
    r"|\b[a-z]\w*(?=\()"
    r"|(?:(?<=^)|(?<=[,:;] ))[a-z]\w*(?=$|[,:;]| of )"
)
"""A function in what a rule says it is made of: an ioctl, a name with `_`, one before `(`, or one that stands alone."""


def _by_function(templates: Iterable[RuleTemplate]) -> dict[str, list[RuleTemplate]]:
    """Each kernel function that the rules cite, by name, and those that do."""
    index: dict[str, list[RuleTemplate]] = {}
    for template in templates:
        for name in dict.fromkeys(_FUNCTION.findall(template.kernel_function)):
            index.setdefault(name, []).append(template)
    return dict(sorted(index.items()))


def _place_of_rule(template: RuleTemplate) -> str:
    """`model/fault.py:414`, where it is written."""
    body = template.body
    return place_of(body) or f"{body.__module__.replace('.', '/')}.py:{body.__code__.co_firstlineno}"


def _switch_data(switch: Restriction) -> dict[str, Any]:
    return {"name": switch.name, "about": switch.about, "source": switch.source, "places": domain.places(switch.source)}


def _places_of_kernel(kernel: Kernel) -> dict[str, list[str]]:
    """Where the reference of facts speaks of the kernel (`kernel`), of its decisions and of what it cites."""
    cited = {what: domain.places(source) for what, source in kernel.cite}
    known = {name: anchor for name in ("kernel", *kernel.decisions())
             if (anchor := domain.anchor_of(kernel.name if name == "kernel" else name))}
    places = {name: [f"{domain.NAME}#{anchor}"] for name, anchor in known.items()}
    return {name: places.get(name, []) + cited.get(name, []) for name in {**places, **cited}}


def _templates(spec: str, kernel: Kernel) -> Iterator[RuleTemplate]:
    """The rules that the kernel has, or has where their features are on."""
    built = {rule.name.partition(".")[0] for rule in system_of(spec).rules}
    for template in (*ALL_RULES, *kernel.own_rules):
        if template.name in built or (template.features and _has(kernel, template)):
            yield template


def _has(kernel: Kernel, template: RuleTemplate) -> bool:
    """Whether the kernel has the rule, features aside: asked once for all that decide alike what the rule asks for."""
    key = (template, *((name, getattr(kernel, name)) for name in sorted(asked_of(kernel, template))))
    if key not in _had:
        _had[key] = template.body(kernel, *(p.term for p in template.params)) is not None
    return _had[key]


_had: dict[Hashable, bool] = {}


def _about(template: RuleTemplate) -> str:
    return " ".join((template.body.__doc__ or "").split())


def _needing(features: Collection[str]) -> str:
    return f" (with {', '.join(features)})" if features else ""
