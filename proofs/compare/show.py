"""A comparison of two kernels as text for a terminal, and as JSON."""

from __future__ import annotations

from typing import Any

from proofs.compare.diff import Report


def _scope_words(report: Report) -> str:
    b = report.bounds

    def many(number: int, what: str, plural: str = "s") -> str:
        return f"{number} {what}{plural * (number > 1)}"

    return (f"{many(b.processes, 'process', 'es')} and {many(b.pages, 'page')}, at a time "
            f"{many(b.references, 'reference')}, "
            f"{many(b.slots, 'swap slot')} and {many(b.extras, 'transient reference')}")


def extent(report: Report) -> str:
    """Of which sequences the report speaks, in one sentence."""
    searched = report.search
    if report.same:
        return "The two kernels have the same terms for these operations: there is no difference in any scope."
    if report.proved is not None:
        return (f"Proved by z3, for any number of processes, pages, frames, references and slots: in every state that "
                f"{report.a} reaches, each rule of {report.b} does what its own does ({report.proved} clauses).")
    length = "any length" if searched.complete else f"at most {searched.depth} operations"
    what = f"Looked at every sequence of {length}, with {_scope_words(report)}"
    left = f"; {searched.unfollowed} times left out an operation that has no rule there" if searched.unfollowed else ""
    stopped = f"; of longer ones only some: {searched.stopped}" if searched.stopped else ""
    return f"{what}: {searched.nodes:,} pairs of situations{left}{stopped}."


def to_text(report: Report) -> str:
    """The report as text for a terminal."""
    lines = []
    if not report.causes:
        found = (
            "no observable difference: proved" if report.proved is not None
            else "undecided" if report.search.stopped or report.left_out else "no observable difference in this scope"
        )
        lines += [f"{report.a} and {report.b}: {found}", ""]
    else:
        number = len(report.causes)
        lines += [f"{report.a} and {report.b}: {number} cause{'s' * (number > 1)} of difference", ""]
    for number, cause in enumerate(report.causes, 1):
        for i, d in enumerate(cause.decisions):
            cite = f" ({d.cite})" if d.cite else ""
            lines.append(f"{f'{number}.' if not i else '':3}{d.name}: {d.of_a} -> {d.of_b}{cite}")
        for difference in cause.differences:
            lines += ["", *(f"     {line}" for line in difference.text.splitlines()), ""]
            lines.append(f"     {report.a}: {difference.answers[0]}; {report.b}: {difference.answers[1]}")
            if difference.parting is not None:
                text, one, other = difference.parting
                lines.append(f"     They part at `{text}`: {', '.join(one) or 'nothing'} on {report.a}, "
                             f"{', '.join(other) or 'nothing'} on {report.b}")
        if cause.others:
            lines += ["", f"     {cause.others} more sequences are explained by this."]
        lines.append("")
    if report.silent and report.proved is not None:
        lines.append(f"Whatever these decisions say, no step is another one: {', '.join(report.silent)}.")
    elif report.silent:
        lines.append(f"These decisions differ too, but nothing found needs them: {', '.join(report.silent)}.")
    if report.elsewhere:
        lines.append(f"These concern parts of the domain that are not turned on: {', '.join(report.elsewhere)}.")
    if report.left_out:
        lines.append(f"Left out, as no operation takes them: {', '.join(report.left_out)}.")
    return "\n".join([*lines, extent(report)]) + "\n"


def to_json(report: Report) -> dict[str, Any]:
    """The report as `diff --json` prints it."""
    b = report.bounds
    return {
        "schema": 1, "kernels": [report.a, report.b], "features": list(report.features),
        "bounds": {"processes": b.processes, "pages": b.pages, "references": b.references, "slots": b.slots,
                   "extras": b.extras, "depth": b.depth},
        "depth": report.search.depth, "complete": report.search.complete, "same_terms": report.same,
        "proved_by": report.proved,
        "stopped": report.search.stopped, "unfollowed": report.search.unfollowed, "nodes": report.search.nodes,
        "causes": [
            {
                "decisions": [{"name": d.name, "values": [d.of_a, d.of_b], "cite": d.cite} for d in cause.decisions],
                "differences": [
                    {"litmus": d.text, "answers": list(d.answers), "shows": [list(s) for s in d.shows],
                     "parting": None if d.parting is None else {
                         "operation": d.parting[0], "rules": [list(d.parting[1]), list(d.parting[2])]}}
                    for d in cause.differences
                ],
                "others": cause.others,
            }
            for cause in report.causes
        ],
        "silent": list(report.silent), "elsewhere": list(report.elsewhere), "left_out": list(report.left_out),
    }
