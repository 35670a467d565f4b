"""The operations of a trace, found by reading the table of operations backwards."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from model.all_rules import ALL_RULES
from model.features import SPLIT
from model.kernels import Kernel
from model.logic import StateFunction
from model.operations import (
    DECLARED,
    ENDINGS,
    OPERATIONS,
    TAILS,
    TOLD_AS,
    WHEN_TRYLOCK_FAILS,
    Operation,
    faults,
    last_stage,
    stages,
)
from model.state import (
    Page,
    cached,
    frame_value,
    pin_proc,
    pte_frame,
    pte_huge,
    pte_present,
    pte_slot,
    pte_swap,
    pte_write,
    slot_frame,
    vma_uffd,
)
from model.state import block as block_of
from proofs.derive.interpreter import Instance
from proofs.litmus.language import FIRST_PROCESS, RESERVED
from proofs.naming.specs import features_of
from proofs.traces.trace import Trace

ANY = "slots == 0"
"""Stands for the condition as long as that is not known."""
_FRESH = "?"
"""A number that no other store stores, chosen when the ways to tell all steps are."""
_COLUMN, _WIDTH = 34, 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
Place = tuple[int, int]
"""A process and a page, by number."""


class _Way(NamedTuple):
    """An operation that may tell a unit, what has to be done after it, and a page that it needs for itself."""

    text: str
    after: tuple[str, ...] = ()
    spare: str = ""


@dataclass
class _Unit:
    """Steps that one operation takes.

    steps      their numbers (0-based)
    last       the number of the step with which it is over, or how many steps the trace has if it is not
    place      (process, page) of its steps, if they are of one
    given      the parameters of its steps
    rules      faults and preparations among them
    goes_on    the rule in whose sub-steps it is, if any
    operation  that takes the steps, once its goal has been met
    words      how the operation's arguments are written
    before     operations that come before it
    ways       what may tell it, the best first
    """

    steps: list[int]
    last: int
    place: Place | None
    given: dict[str, Any]
    rules: list[str] = field(default_factory=list)
    goes_on: str = ""
    operation: Operation | None = None
    words: dict[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    ways: list[_Way] = field(default_factory=list)


# The operations

class Teller:
    """Tells the steps of one trace in their order."""

    def __init__(self, trace: Trace, kernel: Kernel) -> None:
        self.trace = trace
        self.kernel = kernel
        self.operations = (*OPERATIONS, *kernel.own_operations)
        self.position = trace.interpreter.layout.position
        self.stages = stages(rule.name for rule in trace.system.rules)
        self.names: dict[tuple[str, int], str] = {}
        self.taken: set[str] = set()
        self.attributes: dict[int, set[str]] = {}
        self.first: list[str] = []
        self.units: list[_Unit] = []
        self.open: list[_Unit] = []
        self.covered: set[int] = set()
        self.left_out: dict[int, str] = {}
        # Contents matter where some step depends on them; else each store has a number of its own.
        self.contents = any(frame_value.name in step.rule.functions_read() for step in trace.steps)
        self.named("Proc", 0, FIRST_PROCESS)
        for step in trace.steps:
            self.foresee(step)

    # Names

    def new(self, wanted: str) -> str:
        """A name like the wanted one that nothing has yet."""
        stem = wanted if _NAME.fullmatch(wanted) and wanted not in RESERVED else "n"
        numbered = (f"{stem}{i}" for i in itertools.count(2))
        name = next(n for n in itertools.chain([stem], numbered) if n not in self.taken)
        self.taken.add(name)
        return name

    def named(self, sort: str, number: int, wanted: str = "") -> str:
        """The element gets a new name, its own if that is free."""
        self.names[sort, number] = self.new(wanted or self.trace.element(sort, number))
        return self.names[sort, number]

    def block(self, v: int) -> list[int]:
        """The pages of the huge page that v is a part of; v alone if there is none."""
        return self.same_block(v) if "huge" in self.attributes.get(v, ()) else [v]

    def same_block(self, v: int) -> list[int]:
        return [w for w, in self.position[block_of.name] if self.cell(block_of, 0, w) == self.cell(block_of, 0, v)]

    def page(self, v: int, whole: bool = False) -> str:
        """The page's name, or that of the whole huge page."""
        block = self.block(v)
        for w in block:
            self.attributes.setdefault(w, set())
        name = self.names.get(("Page", block[0])) or self.named("Page", block[0])
        return name if whole or len(block) == 1 else f"{name}.{block.index(v)}"

    def cell(self, function: StateFunction, state: int, *index: int) -> int:
        """What a state function has there in state `state` of the trace."""
        return self.trace.states[state][self.position[function.name][index]]

    # What the tables say

    def takes(self, operation: Operation, rules: Iterable[str]) -> bool:
        """The operation may take those rules on its way."""
        raised = itertools.chain(operation.prepares, *faults(operation.access, self.kernel))
        return set(rules) <= set(raised)

    def alone(self, rules: Sequence[str]) -> list[Operation]:
        """Operations that take those rules and then change nothing that matters.

        An access, if there is one, else a reference that is dropped again. A forced write is none of them: its retry
        loop lasts until it has stored. Nor is reclaim, which goes on to take the page that it has looked at.
        """
        fitting = [o for o in self.operations if o.access != "force" and not o.on_frame and self.takes(o, rules)]
        return [o for o in fitting if not o.reference] or fitting

    # Steps

    def tell(self) -> None:
        """Put every step into a unit, or among those left out."""
        for number, step in enumerate(self.trace.steps):
            rule = step.rule.name.partition(".")[0]
            if number in self.covered or step.rule.kind != "step":
                continue
            unit = next((u for u in self.open if self.continues(u, step)), None)
            if unit is None and rule in DECLARED:
                self.declare(number, step)
                continue
            unit = unit or self.begin(number, rule, step)
            if unit is None:
                continue
            unit.given |= step.as_dict
            unit.steps.append(number)
            unit.last = number
            unit.goes_on = self.goes_on(step)
            if step.rule.environment:
                unit.before.append(f"*: {step.rule.environment}")
            if unit.operation and not unit.goes_on:
                self.close(unit)
        for unit in list(self.open):
            if unit.goes_on or not self.alone(unit.rules):
                unit.last = len(self.trace.steps)
            self.close(unit)

    def continues(self, unit: _Unit, step: Instance) -> bool:
        """The step is the next sub-step of what the unit is in."""
        rule, _, stage = step.rule.name.partition(".")
        begins = stage and step.rule.name == self.stages[rule][0]
        same = all(unit.given.get(name, value) == value for name, value in step.binding)
        return rule == unit.goes_on and not begins and same

    def goes_on(self, step: Instance) -> str:
        """The rule whose sub-steps are to follow."""
        rule, _, stage = step.rule.name.partition(".")
        if not stage or stage in ENDINGS:
            return ""
        if rule in TAILS:
            return TAILS[rule]
        return "" if step.rule.name == last_stage(self.stages[rule]) else rule

    def place(self, number: int, step: Instance) -> Place | None:
        """The process and page at which the step is taken.

        Of a frame, the first that maps it; of a slot, the first whose entry names it or that maps its page; of a page
        alone, the process that is next to do something there.
        """
        given = step.as_dict
        if "v" in given:
            here = (later.as_dict for later in self.trace.steps[number:] if later.as_dict.get("v") == given["v"])
            return next((other["p"] for other in here if "p" in other), 0), given["v"]
        frame, slot = given.get("f"), given.get("s")
        if frame is None and slot is not None and self.cell(cached, number, slot):
            frame = self.cell(slot_frame, number, slot)
        leading = (
            (p, v) for p, v in self.position[pte_present.name]
            if (self.cell(pte_present, number, p, v) and self.cell(pte_frame, number, p, v) == frame)
            or (self.cell(pte_swap, number, p, v) and self.cell(pte_slot, number, p, v) == slot)
        )
        return next(leading, None)

    def begin(self, number: int, rule: str, step: Instance) -> _Unit | None:
        """The unit to which a step belongs that is no sub-step of an earlier one.

        None if it comes with an operation told already, or is left out.
        """
        rule = next((usual for usual, other in WHEN_TRYLOCK_FAILS.items() if other == rule), rule)
        place = self.place(number, step)
        tellers = [
            (o, told_as) for told_as in TOLD_AS.get(rule, (rule,))
            for o in [
                o for o in self.operations
                if told_as in (*o.goal, o.quick, *o.perhaps, *o.nothing, *o.whole, *o.at_once, *o.refusal)
            ][:1]
        ]
        operation = tellers[0][0] if tellers else None
        pending = next((u for u in self.open if place and u.place == place and not u.goes_on), None)
        if pending and not self.goes_with(pending, rule, operation):
            pending = None
        for other in list(self.open):
            # What is between others' sub-steps or in a retry loop is still under way.
            if other is not pending and not other.goes_on and self.alone(other.rules):
                self.close(other)
        unit = pending or _Unit([], number, place, {})
        if operation is None:
            if self.follows(rule, step):
                return None
            unit.rules.append(rule)
            if not any(self.takes(o, unit.rules) for o in self.operations):
                self.left_out[number] = "no operation of a litmus test takes it"
                return None
        elif (operation.on_frame or operation.on_slot) and place is None:
            self.left_out[number] = "no process maps the page, so no operation can name it"
            return None
        elif "q" in step.as_dict and step.as_dict["q"] != step.as_dict["p"]:
            self.left_out[number] = "an operation is about pages of one process"
            return None
        else:
            unit.operation = operation
            unit.given |= step.as_dict
            if vma_uffd.name in step.rule.functions_read() and place is not None:
                for v in self.block(place[1]):
                    self.attributes.setdefault(v, set()).add("uffd")
            unit.ways = [
                _Way(self.said(
                    o, unit, number, told_as in (*o.whole, *o.at_once) and told_as not in o.goal,
                    told_as == o.quick or (bool(o.quick) and self.unprepared(o, unit, number))
                ))
                for o, told_as in tellers
            ]
        if unit not in self.open:
            self.open.append(unit)
        return unit

    def unprepared(self, operation: Operation, unit: _Unit, number: int) -> bool:
        """What the operation prepares could have been done before its goal at this step, and was not: it was fast."""
        interpreter, given = self.trace.interpreter, self.trace.steps[number].as_dict
        rules = [r for r in self.trace.system.rules if r.name in operation.prepares and r.name not in unit.rules]
        return any(
            interpreter.enabled(step, self.trace.states[number])
            for rule in rules for step in interpreter.instances(rule) if step.as_dict.items() <= given.items()
        )

    def follows(self, rule: str, step: Instance) -> bool:
        """The rule comes with an operation told already, or with another form of it, which is told instead then."""
        slot = step.as_dict.get("s")
        for unit in reversed(self.units):
            if unit.operation and rule in unit.operation.then:
                return True
            forms = (o for o in self.operations if unit.operation and o.goal == unit.operation.goal and rule in o.then)
            if unit.given.get("s") == slot and (form := next(forms, None)):
                unit.operation = form
                unit.ways = [_Way(self.said(form, unit, unit.steps[0]))]
                return True
        return False

    def goes_with(self, unit: _Unit, rule: str, operation: Operation | None) -> bool:
        """One operation takes the unit's faults and then this rule."""
        if operation is None:
            both = (*unit.rules, rule)
            forced = not self.alone(unit.rules) and any(self.takes(o, both) for o in self.operations)
            return forced or bool(self.alone(both))
        if not self.takes(operation, unit.rules):
            return False
        # A page is first written for its own sake: what it holds then tells it from a page that nobody touched.
        assert unit.place is not None
        touched = any(self.cell(function, unit.steps[0], *unit.place) for function in (pte_present, pte_swap))
        written = any("n" in o.arguments for o in self.alone(unit.rules)[:1])
        return touched or not written or "n" in operation.arguments

    def close(self, unit: _Unit) -> None:
        """The unit is over: faults that no goal followed are told as accesses that change nothing else."""
        self.open.remove(unit)
        self.units.append(unit)
        if unit.operation or unit.place is None:
            return
        whose = self.names["Proc", unit.place[0]]
        number = unit.steps[-1]
        operations = self.alone(unit.rules) or [o for o in self.operations if self.takes(o, unit.rules)]
        if any(o.access == "store" for o in operations) and not self.cell(pte_write, number + 1, *unit.place):
            # A store would go on to the next fault; a load maps the page as well.
            operations = list(dict.fromkeys([*(o for o in self.operations if o.access == "load"), *operations]))
        for operation in operations:
            text = self.said(operation, unit, number)
            after = (f"{whose}: drop {unit.words['k']}",) if operation.reference else ()
            unit.ways.append(_Way(text, after, unit.words["w"] if "w" in operation.arguments else ""))

    def foresee(self, step: Instance) -> None:
        """A step may ask for another kind of page from the start on."""
        rule = step.rule.name
        attribute = DECLARED.get(rule, "")
        if any(rule in o.goal and "huge" in o.features for o in self.operations) and "v" in step.as_dict:
            attribute = "huge"
        if not attribute:
            return
        v = step.as_dict["v"]
        seen = attribute in self.attributes.get(v, ())
        for w in self.same_block(v) if attribute == "huge" else [v]:
            self.attributes.setdefault(w, set()).add(attribute)
        if attribute == "huge" and not seen and rule not in DECLARED:
            self.first.append(f"*: split {self.page(v, whole=True)}")

    def declare(self, number: int, step: Instance) -> None:
        """A step that the declaration of a page says. That of a huge page maps it at once."""
        v = step.as_dict["v"]
        if DECLARED[step.rule.name] != "huge":
            return
        block = self.block(v)
        follows = next((n for n in range(number + 1, len(self.trace.steps)) if self.touches(n, block)), None)
        if follows is not None and self.maps_first(follows, v):
            self.covered.add(follows)
        else:
            self.first.append(f"{FIRST_PROCESS}: dontneed {self.page(v, whole=True)}")

    def touches(self, number: int, pages: Sequence[int]) -> bool:
        """The step changes something about those pages, of any process."""
        changed = (self.trace.interpreter.layout.cells[i] for i in self.trace.changed(number))
        return any(
            sort == Page and index[i] in pages for function, index in changed for i, sort in enumerate(function.domain)
        )

    def maps_first(self, number: int, v: int) -> bool:
        """The step is the first process's write fault that maps the huge page."""
        after = all(self.cell(function, number + 1, 0, v) for function in (pte_huge, pte_write))
        return after and not self.cell(pte_present, number, 0, v)

    # Words

    def said(
        self, operation: Operation, unit: _Unit, number: int, whole: bool = False, fast: bool = False
    ) -> str:
        """`P: OPERATION`, with what the unit's steps say of its arguments."""
        for parameter in (*operation.arguments, *("k" for _ in range(operation.reference))):
            if parameter not in unit.words:
                unit.words[parameter] = self.word(parameter, unit, number, operation.reference)
        words = dict(unit.words)
        if whole and unit.place:
            words["v"] = self.page(unit.place[1], whole)
        gives = f"{words['k']} = " if operation.reference else ""
        # The order in which the language's description has them.
        flags = [*sorted(operation.flags, reverse=True), *("fast" for _ in range(fast))]
        return f"{self.actor(operation, unit, number)}: {gives}" + " ".join(
            [operation.word, *(words[a] for a in operation.arguments), *flags]
        )

    def actor(self, operation: Operation, unit: _Unit, number: int) -> str:
        if operation.reference or "k" not in operation.arguments:
            process = unit.place[0] if unit.place else unit.given["p"]
        else:
            process = self.cell(pin_proc, number, unit.given["k"])
        name = self.names["Proc", process]
        return "*" if operation.actor == "either" and name == FIRST_PROCESS else name

    def word(self, parameter: str, unit: _Unit, number: int, gives: bool) -> str:
        """How an argument is written; a spare page or reference where the steps have none."""
        given = unit.given.get(parameter)
        match parameter:
            case "v":
                assert unit.place is not None
                return self.page(unit.place[1])
            case "w":
                if given is not None:
                    return self.page(given)
                return self.new("y")
            case "n":
                return self.value(unit, number)
            case "child":
                return self.named("Proc", unit.given["child"])
            case _:
                if given is None:
                    return self.new("r")
                return self.named("Pin", given) if gives else self.names["Pin", given]

    def value(self, unit: _Unit, number: int) -> str:
        """What is stored: one more than in the trace, since 0 is what untouched pages hold, where contents matter."""
        if not self.contents:
            return _FRESH
        if "n" in unit.given:
            return str(unit.given["n"] + 1)
        assert unit.place is not None
        frame = self.cell(pte_frame, number + 1, *unit.place)
        return str(self.cell(frame_value, number + 1, frame) + 1)

    # Text

    def tellings(self) -> Iterator[list[str]]:
        """The test's lines up to its condition, for each choice of ways, the best first."""
        self.units.sort(key=lambda u: u.steps[0])
        yield from (self.lines(chosen) for chosen in itertools.product(*(u.ways for u in self.units)))

    def groups(self) -> list[list[int]]:
        """Numbers of the units that overlap, hence stand on one line."""
        groups: list[list[int]] = []
        over = -1
        for number, unit in enumerate(self.units):
            if unit.steps[0] > over:
                groups.append([])
            groups[-1].append(number)
            over = max(over, unit.last)
        return groups

    def lines(self, ways: Sequence[_Way]) -> list[str]:
        """The test's lines up to its condition, each unit told in its way."""
        numbers = itertools.count(1)
        texts = [w.text.replace(_FRESH, str(next(numbers))) if _FRESH in w.text else w.text for w in ways]
        lines = [*self.head(), *(f"page   {w.spare}" for w in ways if w.spare)]
        lines += [f"# Left out: {self.trace.label(number)}" for number in self.left_out]
        groups = self.groups()
        if len(groups) < len(self.units):
            lines += self.split()
        lines += self.first
        for group in groups:
            units = [self.units[i] for i in group]
            steps = "; ".join(self.trace.label(n) for n in sorted(n for u in units for n in u.steps))
            operations = " || ".join(texts[i] for i in group)
            lines += [line for u in units for line in u.before]
            if len(group) == 1:
                lines.append(f"{operations:{_COLUMN}}  # {steps}")
            else:
                lines += [f"# {line}" for line in textwrap.wrap(steps, _WIDTH)] + [operations]
            lines += [line for i in group for line in ways[i].after]
        return lines

    def head(self) -> list[str]:
        claim, kernel = self.trace.claim, self.kernel.name
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{claim}-{kernel}")
        lines = [f"litmus {name}", f"about  {claim} does not hold on {kernel}: {self.trace.statement}"]
        for v, attributes in sorted(self.attributes.items()):
            block = self.block(v)
            if v == block[0]:
                size = [f"huge {len(block)}"] if "huge" in attributes else []
                lines.append(" ".join(["page  ", self.page(v, whole=True), *size, *sorted(attributes - {"huge"})]))
        return lines

    def split(self) -> list[str]:
        """The statement that asks for the trace's sub-steps; between the operations of different lines none matter."""
        built = {template.name: template.split for template in (*ALL_RULES, *self.kernel.own_rules)}
        asked = set(features_of(self.trace.kernel)[1]) & set().union(*(
            built[step.rule.name.partition(".")[0]] for step in self.trace.steps if "." in step.rule.name
        ))
        return [f"split  {' '.join(n for n in SPLIT if n in asked)}"] if asked else []

    def doubt(self) -> str:
        """What may be the reason why nothing told breaks the claim: a step left out, or amid an operation."""
        unfinished = [unit.steps[-1] for unit in self.units if unit.last == len(self.trace.steps)]
        amid = "it is in the middle of an operation, and a litmus test looks only when all are done"
        why = {**dict.fromkeys(unfinished, amid), **self.left_out}
        return "".join(f"step {n + 1}, {self.trace.label(n)}: {reason}" for n, reason in sorted(why.items())[:1])
