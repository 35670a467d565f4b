"""A comparison as plain text of 72 columns, as one would answer on a mailing list."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from model.blame import place_of
from model.logic import ModelError
from proofs.check.cells import Cell
from proofs.compare.against import ASIDE, BETTER, SAME, UNDECIDED, WORSE, advice
from proofs.compare.answer import KernelComparison, told_changes
from proofs.litmus.language import Litmus
from proofs.litmus.retell import retell
from proofs.naming.specs import find_kernel, formula_of, system_of
from proofs.traces.graph import state_graphs
from proofs.traces.text import closing_words, notation, state_lines, step_words
from proofs.traces.trace import Trace, read
from proofs.words import MAIL, wrapped

_CALLS: Mapping[str, str] = {
    "write": "*{v} = {n};", "read": "(void)*(volatile char *){v};", "exit": "_exit(0);",
    "fork": "if (!fork()) pause(); /* the child is {child} */",
    "munmap": "munmap({v}, size);", "dontneed": "madvise({v}, size, MADV_DONTNEED);",
    "madv-free": "madvise({v}, size, MADV_FREE);", "unmerge": "madvise({v}, size, MADV_UNMERGEABLE);",
    "mremap": "mremap({v}, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, {w});",
    "mprotect ro": "mprotect({v}, size, PROT_READ);", "mprotect rw": "mprotect({v}, size, PROT_READ | PROT_WRITE);",
    "vmsplice": "vmsplice({k}[1], &(struct iovec){{ {v}, size }}, 1, 0);",
    "pageout": "madvise({v}, size, MADV_PAGEOUT);",
}
"""Word of an operation, with its flag where that matters, to a call. The rest has none that fits a line:
`python -m proofs reproducer` makes whole programs."""


def to_mail(answer: KernelComparison, command: str, version: str) -> str:
    """The comparison as a mail: what was asked, verdicts, what is worse step by step, decisions, a test, what is open.

    `command`: what was typed; `version`: of the program.
    """
    lines = [*wrapped(
        f"I compared {answer.new} ({answer.about}) with {answer.old}, by a model checker for copy-on-write and page "
        f"pinning: {answer.counts()}.", MAIL,
    ), "", *_command(command), *wrapped(f"{version}; scope: {answer.scope}", MAIL, "  "), ""]
    lines += _verdicts(answer)
    for row in answer.rows:
        if row.judged == WORSE and row.new is not None:
            lines += ["", *_worse(answer, row.new)]
    if answer.changes is not None:
        lines += ["", *told_changes(answer.changes, MAIL), *_new_rules(answer)]
    if answer.telling is not None:
        shown = [line for line in answer.telling.text.splitlines() if not line.startswith("about")]
        one, other = answer.telling.answers
        lines += ["", "A shortest test that the two answer differently:", "", *(f"  {line}" for line in shown), "",
                  *wrapped(f"{answer.old}: {one}; {answer.new}: {other}.", MAIL, "  ")]
    elif answer.untold:
        lines += ["", *wrapped(answer.untold, MAIL)]
    return "\n".join([*lines, "", *_reach()]) + "\n"


def _new_rules(answer: KernelComparison) -> Iterator[str]:
    """The functions of a user's file that the changed decisions are now, as they are written there."""
    kernel = find_kernel(answer.new)
    changes = answer.changes.changes if answer.changes is not None else ()
    values = (getattr(kernel, change.decision.name, None) for change in changes)
    for value in dict.fromkeys(v for v in values if inspect.isfunction(v) and place_of(v)):
        try:
            source = textwrap.dedent(inspect.getsource(value)).rstrip()
        except OSError:
            continue  # Typed in a session, which keeps no text.
        if value.__name__ != "<lambda>":
            yield from ("", f"  {value.__name__}, as {answer.new} has it:", "")
            yield from textwrap.indent(source, "    ").splitlines()


def _command(command: str) -> list[str]:
    """The command, indented, in lines that a shell joins again."""
    *first, last = wrapped(command, MAIL - 2, "  ", "      ")
    return [*(f"{line} \\" for line in first), last]


def _reach() -> list[str]:
    """What was computed, and no more."""
    return wrapped(
        "What this is: verdicts on a model of the rules of mm/, not on the code. \"Proved\" is for any number of "
        "processes, pages, frames, references and swap slots; \"holds in the scope\" is for the sizes given above; a "
        "broken promise is a sequence of steps that the model's rules allow, executed by a second evaluator.", MAIL,
    )


def _verdicts(answer: KernelComparison) -> Iterator[str]:
    """The promises by what became of them, each with both verdicts in words."""
    for judged, heading in (
        (WORSE, f"Worse: {answer.old} keeps, {answer.new} breaks"), (UNDECIDED, "Not decided"),
        (BETTER, f"Better: {answer.old} breaks, {answer.new} keeps"), (SAME, "The same"),
        (ASIDE, "Not known, but not worse, or asked of one of them only"),
    ):
        rows = [row for row in answer.rows if row.judged == judged]
        if not rows:
            continue
        yield from wrapped(f"{heading}:", MAIL)
        for row in rows:
            was, now = ("not asked" if cell is None else _in_words(cell) for cell in (row.old, row.new))
            said = was if was == now else f"{was}; now {now}"
            yield from wrapped(f"* {row.invariant}: {said}", MAIL, "  ", "    ")
            if row.new is not None and (what := advice(row.new)):
                yield from wrapped(f"to go on: {what}", MAIL, "    ")


def _in_words(cell: Cell) -> str:
    return {
        "VIOLATED": f"broken in {cell.length} steps", "PROVED": "proved", "EXHAUSTED": "holds in the scope",
        "BOUNDED": f"not broken within {cell.depth} steps", "UNKNOWN": "not known",
    }[cell.verdict] + (", with nothing to speak of" if cell.vacuous else "")


def _worse(answer: KernelComparison, cell: Cell) -> Iterator[str]:
    """The counterexample: the claim, each step with the state after it, and as a program."""
    yield from wrapped(f"{cell.invariant} on {answer.new}", MAIL)
    yield "-" * min(MAIL, len(f"{cell.invariant} on {answer.new}"))
    yield ""
    yield from wrapped(f"Claimed: {answer.statement(cell.invariant)}.", MAIL, then="  ")
    if cell.trace is None:
        return
    trace = read(Path(cell.trace), system_of, formula_of)
    yield ""
    yield from _states(trace)
    yield ""
    yield from _program(trace)


def _states(trace: Trace) -> Iterator[str]:
    """Each step, and the state after it."""
    graphs = state_graphs(trace)
    for number, graph in enumerate(graphs):
        if number:
            step = trace.steps[number - 1]
            yield from wrapped(f"{number}. {trace.label(number - 1)} [{step.rule.kernel_function}]", MAIL, then="   ")
            yield from wrapped(" ".join(step_words(trace, number)), MAIL, "   ")
        else:
            yield "0. start"
        for line in state_lines(graph, graphs[max(number - 1, 0)]):
            yield from wrapped(line, MAIL, "    ", "         ")
    _, _, broken = closing_words(trace, graphs[-1])
    yield ""
    yield from wrapped(broken, MAIL, then="  ")
    yield from wrapped(f"(> changed, - gone, ! breaks the claim; {notation(graphs)})", MAIL)


def _program(trace: Trace) -> Iterator[str]:
    """The counterexample as a litmus test, and beside it as calls where each operation is one."""
    try:
        told = retell(trace, find_kernel(trace.kernel))
    except ModelError as error:
        yield from wrapped(f"No litmus test tells it: {error}.", MAIL)
        return
    yield "As a litmus test:"
    yield ""
    yield from (f"  {line}" for line in told.text.splitlines() if not line.startswith("about"))
    yield ""
    yield "In C (what is no call of one line is said in the test's words):"
    yield ""
    yield from (f"  {line}" for line in _in_c(told.litmus))


def _in_c(test: Litmus) -> Iterator[str]:
    """Each statement as a call, after who does it."""
    for statement in test.statements:
        operation, part = statement.operation, statement.parts[0]
        pattern = _CALLS.get(" ".join((operation.word, *sorted(operation.flags))))
        actor = statement.text.partition(":")[0]
        if pattern is None or len(statement.parts) > 1:
            yield f"/* {statement.text} */"
            continue
        names = {name: test.pages[part[name]].name.replace(".", "_") for name in "vw" if name in part}
        names |= {"k": test.references[part["k"]]} if "k" in part else {}
        names |= {"child": test.processes[part["child"]]} if "child" in part else {}
        names |= {"n": str(test.values[part["n"]])} if "n" in part else {}
        yield f"/* {actor} */ {pattern.format(**names)}"
