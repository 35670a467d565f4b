"""The costs that `proofs/cost` finds, as text, JSON and a picture; and such faults timed on this machine."""

from __future__ import annotations

import itertools
import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from model.costs import LOCKS, MAPCOUNTS, Count
from model.logic import ModelError
from proofs.cost.meters import COPIES, METERS, OPERATIONS
from proofs.cost.tables import SITUATIONS, CostTable, OperationCost
from proofs.cost.workload import SUBPAGES, workload
from proofs.hardware import observing, reproducer, vm
from proofs.traces.svg import CHANGED, GREY, INK, PALE, PAPER, PIN, SWAP, VIOLATED, add, put_text, rounded, wrap

TIMER = reproducer.REPLAY / "cow_cost.c"


@dataclass(frozen=True)
class Workload:
    """`processes` children that each write `size` bytes once; and a speed-up, in per cent, that somebody reported."""

    processes: int = 104
    size: int = 959297984
    gain: float = 31.4

    def __post_init__(self) -> None:
        if self.processes < 1 or self.size < 1 or not 0 < self.gain < 10000:
            raise ModelError("a workload has at least 1 process and 1 byte, and a gain of more than 0 %")


@dataclass(frozen=True)
class Saved:
    """What the rule of kernel `after` saves that of `before`, per write fault. `share`: what each read or lock saved
    would have to cost, in per cent of what a fault costs afterwards, to explain the gain alone."""

    before: str
    after: str
    thp: bool
    mapcounts: float
    locks: float
    share: float

    @property
    def named(self) -> str:
        """Which kernels and pages."""
        return f"{self.before} to {self.after}, THP {'on' if self.thp else 'off'}"


def saved(tables: Sequence[CostTable], work: Workload) -> list[Saved]:
    """For each kernel and the next one that pays less for the workload: how much."""
    found = []
    for thp in (False, True):
        for before, after in itertools.pairwise(tables):
            old, new = (workload(t, work.processes, work.size, thp) for t in (before, after))
            if old.faults != new.faults or old.counts[COPIES] != new.counts[COPIES]:
                # Other faults are no basis of comparison.
                continue
            reads, locks = ((old.counts[m] - new.counts[m]) / new.faults for m in (MAPCOUNTS, LOCKS))
            if reads > 0 and locks > 0:
                found.append(Saved(before.kernel, after.kernel, thp, reads, locks, work.gain / (reads + locks)))
    return found


# Measuring

@dataclass(frozen=True)
class Measured:
    """Ratios of times on one machine. `release`: its kernel; `huge`: it gave huge pages. `ratios`: what to number."""

    release: str
    huge: bool
    ratios: dict[str, float]


def measure(seconds: float = 120.0) -> Measured:
    """Time write faults after fork on the running kernel, and what they are compared with. Raises ModelError if there
    is no compiler or the program does not end within so many seconds."""
    with vm.compiled(TIMER.read_text(encoding="utf-8"), "cow_cost") as program:
        lines = observing.run_here(program, False, seconds)
    try:
        said = json.loads(lines[-1])
        copied = said["small shared by 2"]
        ratios = {
            "a copying fault, 9 processes sharing : 2": said["small shared by 9"] / copied,
            "a copying fault, THP : small page (2 sharing)": said["huge shared by 2"] / copied,
            "a fault that reuses : one that copies": said["small alone"] / copied,
            "copying a page in user space : a copying fault": said["copy"] / copied,
            NEAR: said["reads near"] / copied,
            FAR: said["reads far"] / copied,
        }
        return Measured(str(said["release"]), bool(said["huge"]), ratios)
    except (ValueError, KeyError, IndexError, TypeError, ZeroDivisionError) as error:
        raise ModelError(f"the program that measures gave no times: {error}") from error


NEAR = f"{SUBPAGES} reads, a line each, the same again and again : a copying fault"
FAR = f"{SUBPAGES} reads, a line each, others every time : a copying fault"


# Text

def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def to_text(tables: Sequence[CostTable], work: Workload, measured: Measured | None) -> str:
    """Everything for a terminal: a table for each meter, kernels by operations, then slots, workload and times."""
    lines = ["The most that one access costs, undisturbed, whatever came before:", ""]
    lines += _columns([["", o.name, o.about] for o in OPERATIONS])
    lines += [
        "", f"N is the number of sub-pages of a large folio ({SUBPAGES} on x86-64), P that of pages of the process.",
        "Each number was reached by exploration, and z3 and cvc5 agree that no state of any size makes it more;",
        "`x (<= y)`: x was reached, y is proved. `-`: the kernel raises no fault there.",
    ]
    for meter, about in METERS.items():
        heads = [[meter, *(o.name for o in OPERATIONS)]]
        lines += ["", f"{meter}: {about}", *_columns([*heads, *([t.kernel, *_row(t, meter)] for t in tables)])]
    lines += ["", "An idle swap slot, which the swap cache holds for a page and no swap entry names:"]
    lines += _columns([["", s.name, s.about] for s in SITUATIONS])
    lines += ["", *_columns([
        ["kernel", *(s.name for s in SITUATIONS)],
        *([t.kernel, *(t.slot_outcomes[s.name] for s in SITUATIONS)] for t in tables),
    ])]
    lines += ["", *_workload_text(tables, work)]
    lines += ["", *_measured_text(measured)] if measured is not None else []
    stopped = {f"{t.kernel}, {c.operation}, {c.meter}: {note}" for t in tables for c in t.cells
               if (note := _doubt(c))}
    return "\n".join([*lines, *sorted(stopped)]) + "\n"


def _row(table: CostTable, meter: str) -> list[str]:
    cells = {cell.operation: cell for cell in table.cells if cell.meter == meter}
    return [str(cells[o.name]) if o.name in cells else "-" for o in OPERATIONS]


def _doubt(cell: OperationCost) -> str:
    """Why the number may not be the last word; empty if it is."""
    if not cell.bound.proved:
        return ", ".join(f"{solver} says {said}" for solver, said in cell.bound.answers.items() if said != "unsat")
    return cell.stopped if not cell.exact else ""


def _workload_text(tables: Sequence[CostTable], work: Workload) -> list[str]:
    rows = [["kernel", "THP", "write faults", LOCKS, "spread over", MAPCOUNTS, "per fault", COPIES]]
    for table in tables:
        for thp in (False, True):
            total = workload(table, work.processes, work.size, thp)
            rows.append([
                table.kernel, "on" if thp else "off", *(f"{n:,}" for n in (total.faults, total.counts[LOCKS])),
                f"{total.locked:,}" if total.locked else "-", f"{total.counts[MAPCOUNTS]:,}",
                f"{total.counts[MAPCOUNTS] / total.faults:.1f}", f"{total.counts[COPIES]:,}",
            ])
    lines = [
        f"{work.processes:,} processes, forked from one that filled {work.size:,} bytes and waits, each write all of "
        "it once:", "", *_columns(rows),
    ]
    differences = saved(tables, work)
    if differences:
        lines += ["", f"A gain of {work.gain:g} % means that {100 * work.gain / (100 + work.gain):.1f} % of the time "
                  "before went into what is not done any more. Per write fault that is"]
    lines += [
        f"  {d.named}: {d.mapcounts:.1f} mapcount reads and {d.locks:.1f} page locks; so each would cost "
        f"{d.share:.2g} % of a fault under {d.after}"
        for d in differences
    ]
    return lines


def _measured_text(measured: Measured) -> list[str]:
    lines = [f"Measured here, on Linux {measured.release} (ratios of medians; no kernel above but the one running):"]
    if not measured.huge:
        lines.append("  this machine gave no huge pages: read THP as small pages")
    return [*lines, *(f"  {ratio:7.3f}  {what}" for what, ratio in measured.ratios.items())]


# JSON

def to_json(tables: Sequence[CostTable], work: Workload, measured: Measured | None) -> dict[str, Any]:
    """The same as one object; counts as the numbers of ones, sub-pages and pages that they are made of."""
    return {
        "schema": 1,
        "operations": {o.name: o.about for o in OPERATIONS}, "meters": METERS,
        "kernels": [
            {
                "kernel": t.kernel,
                "costs": [
                    {
                        "operation": c.operation, "meter": c.meter, "worst": _count(c.worst),
                        "bound": [_count(b) for b in c.bound.most], "proved": c.bound.proved,
                        "solvers": c.bound.answers, "stopped": c.stopped, "steps": list(c.steps), "trace": c.trace,
                    }
                    for c in t.cells
                ],
                "slots": t.slot_outcomes,
                "workload": {
                    "thp on" if thp else "thp off": {"faults": total.faults, "locks": total.locked, **total.counts}
                    for thp in (False, True)
                    for total in [workload(t, work.processes, work.size, thp)]
                },
            }
            for t in tables
        ],
        "workload": {"processes": work.processes, "bytes": work.size, "gain": work.gain},
        "saved": [vars(d) for d in saved(tables, work)],
        "measured": None if measured is None else vars(measured),
    }


def _count(count: Count) -> dict[str, Any]:
    return {"text": str(count), "ones": count.ones, "subpages": count.subpages, "pages": count.pages}


# Picture

WIDTH, LEFT, TOP, BOTTOM, PANEL, GAP = 1040.0, 78.0, 92.0, 400.0, 400.0, 112.0
COLOURS = (VIOLATED, SWAP, PIN, CHANGED, INK, GREY)


@dataclass(frozen=True)
class _Axes:
    """Where numbers are drawn, on logarithmic scales."""

    left: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The point, in pixels; what lies below the scale is drawn on its edge."""
        across, up = (
            (math.log(max(value, low)) - math.log(low)) / (math.log(high) - math.log(low))
            for value, (low, high) in ((x, self.x), (y, self.y))
        )
        return self.left + PANEL * across, BOTTOM - (BOTTOM - TOP) * up


def to_svg(tables: Sequence[CostTable], work: Workload, measured: Measured | None) -> str:
    """Left, mapcount reads of the workload by the number of processes; right, the gain from not making them, by what
    one costs."""
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
    title = f"{work.processes:,} processes each write a shared region of {work.size:,} bytes"
    ET.SubElement(svg, "title").text = title
    ET.SubElement(svg, "desc").text = " ".join(_workload_text(tables, work))
    paper = add(svg, "rect", x=0.5, y=0.5, width=WIDTH - 1, rx=6, fill=PAPER, stroke=PALE)
    put_text(svg, 20, 34, title, 17, bold=True)
    height = max(_draw_reads(svg, tables, work), _draw_gain(svg, tables, work, measured)) + 16
    paper.set("height", rounded(height - 1))
    size = {"width": WIDTH, "height": height}
    svg.attrib.update({name: rounded(value) for name, value in size.items()})
    svg.set("viewBox", f"0 0 {rounded(WIDTH)} {rounded(height)}")
    ET.indent(svg, " ")
    return ET.tostring(svg, encoding="unicode") + "\n"


def _draw_axes(svg: ET.Element, axes: _Axes, titles: tuple[str, str, str], unit: Callable[[int], str]) -> None:
    heading, below, beside = titles
    put_text(svg, axes.left, TOP - 30, heading, 14, bold=True)
    put_text(svg, axes.left, TOP - 12, beside, 12, fill=GREY)
    put_text(svg, axes.left + PANEL / 2, BOTTOM + 40, below, 12, fill=GREY, anchor="middle")
    for (low, high), across in ((axes.x, True), (axes.y, False)):
        for power in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1):
            x, y = axes.at(10.0**power, axes.y[0]) if across else axes.at(axes.x[0], 10.0**power)
            end = (x, TOP) if across else (axes.left + PANEL, y)
            add(svg, "line", x1=x, y1=y, x2=end[0], y2=end[1], stroke=PALE)
            label = unit(power) if across else _power(power)
            put_text(svg, x if across else x - 8, y + 18 if across else y + 4, label, 11, fill=GREY,
                       anchor="middle" if across else "end")


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -4 <= power < 5 else f"1e{power}"


def _draw_line(svg: ET.Element, points: Sequence[tuple[float, float]], colour: str, dashed: bool = False) -> None:
    path = "M" + "L".join(f"{rounded(x)} {rounded(y)}" for x, y in points)
    more = {"stroke_dasharray": "5 4"} if dashed else {}
    add(svg, "path", d=path, fill="none", stroke=colour, stroke_width=2, **more)


def _draw_legend(svg: ET.Element, left: float, entries: Sequence[tuple[str, str]]) -> float:
    """Colours and what they stand for, below a panel; returns the y below."""
    y = BOTTOM + 66
    for colour, words in entries:
        add(svg, "line", x1=left, y1=y - 4, x2=left + 18, y2=y - 4, stroke=colour, stroke_width=3)
        for line in wrap(words, PANEL - 26, 12):
            put_text(svg, left + 26, y, line, 12)
            y += 17
    return y


def _draw_reads(svg: ET.Element, tables: Sequence[CostTable], work: Workload) -> float:
    """A line for each number of reads; those that could not be told apart are one. Returns the y below."""
    most = max(2, work.processes)
    counts = sorted({max(1, round(most ** (i / 12))) for i in range(13)})
    lines: dict[int, tuple[list[int], dict[bool, list[str]]]] = {}
    for table in tables:
        for thp in (True, False):
            values = [workload(table, n, work.size, thp).counts[MAPCOUNTS] for n in counts]
            close = round(20 * math.log10(values[-1] + 1))
            lines.setdefault(close, (values, {True: [], False: []}))[1][thp].append(table.kernel)
    drawn = [value for values, _ in lines.values() for value in values if value]
    low, high = min(drawn, default=1e3), max(drawn, default=1e4)
    axes = _Axes(LEFT, (1, most), (10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high + 1))))
    _draw_axes(svg, axes, ("Reads of mapcounts", "processes", "in all"), _power)
    entries = []
    for number, (_, (values, kernels)) in enumerate(sorted(lines.items(), reverse=True)):
        # A logarithmic scale has no zero: who reads none has no line, and is only named.
        some = [(n, value) for n, value in zip(counts, values, strict=True) if value]
        colour = COLOURS[number % len(COLOURS)] if some else PAPER
        if some:
            _draw_line(svg, [axes.at(n, value) for n, value in some], colour)
        words = [f"THP {'on' if thp else 'off'}: {', '.join(names)}" for thp, names in kernels.items() if names]
        entries.append((colour, ("" if some else "none, so no line: ") + "; ".join(words)))
    return _draw_legend(svg, LEFT, entries)


def _draw_gain(svg: ET.Element, tables: Sequence[CostTable], work: Workload, measured: Measured | None) -> float:
    """Returns the y below."""
    axes = _Axes(LEFT + PANEL + GAP, (1e-3, 1e2), (1.0, 1e3))
    titles = ("What that may gain", "cost of one read or lock, in per cent of a write fault", "speed-up in per cent")
    _draw_axes(svg, axes, titles, lambda power: f"{_power(power)} %")
    low, high = axes.at(axes.x[0], work.gain), axes.at(axes.x[1], work.gain)
    _draw_line(svg, [low, high], INK, dashed=True)
    put_text(svg, low[0] + 4, low[1] - 6, f"{work.gain:g} %", 12, bold=True)
    entries = []
    for number, d in enumerate(saved(tables, work)):
        colour = COLOURS[number % len(COLOURS)]
        items = d.mapcounts + d.locks
        start, end = max(axes.x[0], axes.y[0] / items), min(axes.x[1], axes.y[1] / items)
        _draw_line(svg, [axes.at(start, start * items), axes.at(end, end * items)], colour)
        x, y = axes.at(d.share, work.gain)
        add(svg, "circle", cx=x, cy=y, r=4, fill=colour)
        entries.append((
            colour, f"{d.named}: {d.mapcounts:.1f} reads and {d.locks:.1f} locks less for each fault; "
            f"{work.gain:g} % at {d.share:.2g} %",
        ))
    for what, name in ((NEAR, "from cache"), (FAR, "from memory")) if measured is not None else ():
        cost = 100 * measured.ratios[what] / SUBPAGES if measured is not None else 0.0
        if axes.x[0] <= cost <= axes.x[1]:
            x, _ = axes.at(cost, 1)
            add(svg, "line", x1=x, y1=TOP, x2=x, y2=BOTTOM, stroke=GREY, stroke_dasharray="2 3")
            entries.append((GREY, f"measured here: a read {name}, {cost:.2g} % of a copying fault"))
    return _draw_legend(svg, axes.left, entries)
