"""A reading as text, as JSON, and as the table of several trees in docs/source.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.decisions import value_text
from model.features import SPLIT
from model.lapses import LAPSES
from proofs.source.findings import ABSENCE, NOT_READ, PATTERN, READ
from proofs.source.granted import GRANTED
from proofs.source.survey import ASKED, DIFFERS, EQUAL, DecisionRow, Reading

_HOW = {READ: "all paths", PATTERN: "pattern", ABSENCE: "absence", NOT_READ: ""}
_MARK = {READ: "", PATTERN: " ·", ABSENCE: " ··", NOT_READ: ""}


def looked_for(decision: str) -> str:
    """Where a decision is taken, as far as is known: functions and files."""
    asked = {**ASKED, **{each.decision: each for each in GRANTED}}[decision]
    return f"{' or '.join(asked.functions) or 'the text'} in {', '.join(asked.files)}"


def rows_of(reading: Reading) -> list[list[str]]:
    """A line for each decision: name, status, what the tree decides, the model's value, how it was found."""
    table = []
    for row in reading.rows:
        long = row.status == DIFFERS and not row.finding.values
        reads = "see below" if long else row.reads
        table.append([row.decision, row.status, reads if row.status != NOT_READ else "", value_text(row.value),
                      _HOW[row.finding.how]])
    return table


def notes_of(row: DecisionRow, nearest: str) -> list[str]:
    """What is to be said of a decision that is not simply equal: lines of C, a state, a formula, what is missing."""
    finding, said = row.finding, []
    if row.status == NOT_READ:
        return [f"{row.decision} is not read: {finding.why}. {nearest} has {value_text(row.value)}; it is looked for "
                f"in {looked_for(row.decision)}."]
    if row.status == EQUAL:
        return []
    said.append(f"{row.decision} differs: {'; '.join(finding.where)}.")
    if finding.values:
        said.append(f"  It is {value_text(finding.values[0])}; {nearest} has {value_text(row.value)}.")
    elif finding.words:
        said.append(f"  It holds if: {finding.words}.")
        said.append(f"  In the model: {finding.python}")
    if finding.why:
        said.append(f"  It cannot be said in the model, which keeps {value_text(row.value)}: {finding.why}.")
    if state := finding.difference(row.value):
        said.append(f"  A state that tells: {state}.")
    if finding.given:
        said.append(f"  Asked of: {finding.given}.")
    return said


def told(reading: Reading, verbose: bool = False) -> list[str]:
    """What follows the table: differences, what is not read, with `verbose` where everything was found; the sum."""
    lines = [line for row in reading.rows for line in notes_of(row, reading.nearest.name)]
    lines += [line for row in reading.granted for line in notes_of(row, "the model")]
    for row, name in reading.lapses():
        lapse = LAPSES[name]
        shows = f", which shows only {_options(lapse.features)}" if lapse.features else ""
        lines.append(f"The kernel that was read has the lapse {name} ({lapse.about}){shows}: {row.decision} is not so.")
    if verbose:
        for row in reading.rows:
            if row.status == EQUAL:
                lines.append(f"{row.decision}: {'; '.join(row.finding.where)}")
                lines += [f"  asked of: {row.finding.given}"] if row.finding.given else []
                lines += [f"  met, and of no account: {'; '.join(row.finding.ignored)}"] if row.finding.ignored else []
    counts = reading.counts()
    held = sum(row.status == EQUAL for row in reading.granted)
    lines.append(f"What rules take for granted of any kernel: {held} of {len(reading.granted)} hold.")
    lines.append(
        f"{len(reading.rows)} decisions: {counts[READ]} read on all paths, {counts[PATTERN]} found as patterns, "
        f"{counts[ABSENCE]} because nothing shows otherwise, "
        f"{counts[NOT_READ]} not read; {counts[DIFFERS]} differ from {reading.nearest.name}."
    )
    return lines


def _options(features: Sequence[str]) -> str:
    """The options of `check` that turn those features on."""
    return " ".join(f"{'--split' if name in SPLIT else '--with'} {name}" for name in features)


def to_json(reading: Reading) -> dict[str, Any]:
    """What `source read --json` prints."""
    return {
        "schema": 1, "tree": reading.root, "version": reading.version, "digest": reading.digest,
        "commit": reading.commit, "files": reading.files, "configured": reading.configured,
        "nearest": reading.nearest.name, "counts": reading.counts(),
        "granted": {row.decision: row.status for row in reading.granted},
        "lapses": {name: row.decision for row, name in reading.lapses()}, "decisions": [{
            "decision": row.decision, "status": row.status, "how": row.finding.how, "model": value_text(row.value),
            "values": [value_text(v) for v in row.finding.values], "where": list(row.finding.where),
            "words": row.finding.words, "python": row.finding.python, "why": row.finding.why,
            "given": row.finding.given,
            "state": row.finding.difference(row.value) if row.status == DIFFERS else "",
            "ignored": list(row.finding.ignored),
        } for row in reading.rows],
    }


def to_markdown(readings: Sequence[Reading]) -> str:
    """The table of trees: what each decides, and where that differs from the nearest kernel of the model."""
    heads = ["decision", *(f"{r.version} ({r.nearest.name})" for r in readings)]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for n, row in enumerate(readings[0].rows):
        cells = []
        for reading in readings:
            each = reading.rows[n]
            mark = {EQUAL: "", DIFFERS: "**differs** ", NOT_READ: "not read "}[each.status]
            long = each.status == DIFFERS and not each.finding.values
            cells.append(f"{mark}{'' if long or each.status == NOT_READ else each.reads}"
                         f"{_MARK[each.finding.how]}".strip())
        lines.append(f"| `{row.decision}` | {' | '.join(cells)} |")
    sums = [r.counts() for r in readings]
    lines.append("| on all paths / patterns / absence / not read / differ | " + " | ".join(
        f"{c[READ]} / {c[PATTERN]} / {c[ABSENCE]} / {c[NOT_READ]} / {c[DIFFERS]}" for c in sums) + " |")
    notes = [f"{r.version}: {' '.join(s.strip() for s in notes_of(row, r.nearest.name))}"
             for r in readings for row in r.rows if row.status != EQUAL]
    return "\n".join([*lines, "", *(f"* {note}" for note in notes)])


