"""Two kernels in lockstep: the shortest sequences of operations after which a user can see a difference.

Both kernels are followed at once, breadth first over sequences of litmus operations. A node is what is possible after
one sequence and what its calls returned: the situations of the one kernel and those of the other (a subset
construction of both). Two nodes that differ by the names of processes, pages, references, frames and values are one.
Where the sets differ in what loads and references return, or one kernel has an answer that the other has not, is a
difference. If no new node is left, there is none of any length.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import z3

from model.kernels import Kernel, own_operations
from model.logic import ModelError, Scope, System, functions_in
from model.operations import OPERATIONS, Operation
from model.state import Frame, Page, Pin, Proc, extra, vma_uffd
from proofs.derive.ground import Grounder
from proofs.derive.interpreter import State, interpreter_of
from proofs.derive.symmetry import Naming, frames
from proofs.errors import Interrupted
from proofs.litmus.execution import Run, Situation
from proofs.litmus.facts import LOOKED_AT, slots_used, value_loaded, value_seen
from proofs.litmus.language import Litmus, PageDeclaration, Statement

PROCESSES = ("A", "C", "D", "E")
PAGES = ("x", "y", "z")
REFERENCES = ("r", "t", "k", "m")
ALWAYS = ("zero",)
"""Features that the search always has: without them it could not read."""


@dataclass(frozen=True)
class Bounds:
    """How much a sequence may use: processes, pages and references held at a time; swap slots and transient references
    at a time; its length. `seconds`: for the search."""

    processes: int = 2
    pages: int = 1
    references: int = 2
    slots: int = 1
    extras: int = 1
    depth: int = 5
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, most in (("processes", PROCESSES), ("pages", PAGES), ("references", REFERENCES)):
            if not 1 <= getattr(self, name) <= len(most):
                raise ModelError(f"{name}: from 1 to {len(most)}, not {getattr(self, name)}")
        if self.depth < 1:
            raise ModelError(f"a depth is 1 or more, not {self.depth}")

    def scope(self) -> Scope:
        """Large enough that frames and values never run out."""
        ptes = self.processes * self.pages
        # The zero page, or a page of the page cache for each page; and one to copy to.
        held = ptes + self.references + self.slots + self.extras + self.pages + 2
        return Scope.of(
            Proc=self.processes, Page=self.pages, Frame=held, Pin=self.references, Slot=self.slots,
            Value=held + self.slots + 2, Folio=1, Block=self.pages,
        )


Pages = tuple[frozenset[str], ...]
"""The words that each page is declared with."""
Returns = dict[str, frozenset[Situation]]
"""What an operation returned (`done`, `refused`, `blocked`: it waits) to the situations then."""


class Move(NamedTuple):
    """One operation of a sequence, with element numbers for its parameters; each store has a value of its own."""

    operation: Operation
    p: int
    bound: tuple[tuple[str, int], ...]


class Held(NamedTuple):
    """A reference: the process that took it, and whether for writing."""

    holder: int
    write: bool


class Possibility(NamedTuple):
    """What is possible after the sequence `came`, for one series of what its calls returned.

    sides      the situations of both kernels
    processes  for each number `new`, `alive` or `exited`
    held       for each number the reference, or None
    pages      the words that each page was declared with
    """

    sides: tuple[frozenset[Situation], frozenset[Situation]]
    processes: tuple[str, ...]
    held: tuple[Held | None, ...]
    pages: Pages
    came: tuple[Move, ...]


_READ = next(operation for operation in OPERATIONS if operation.word == "read")
_EXTRA = extra(z3.Const("f", Frame))


class Side:
    """One kernel: what its operations can do, each worked out once up to the names of frames and values."""

    def __init__(self, kernel: Kernel, system: System, bounds: Bounds) -> None:
        self.kernel = kernel
        self.bounds = bounds
        self.interpreter = interpreter_of(system, bounds.scope())
        grounder = Grounder(system, bounds.scope())
        found = (frames(grounder, sort) for sort in ("Frame", "Slot"))
        self.symmetries: list[Naming] = [symmetry for symmetry in found if symmetry is not None]
        layout = self.interpreter.layout
        self.valued = [i for i, (function, _) in enumerate(layout.cells) if function.range.name() == "Value"]
        read = system.cone([*LOOKED_AT, _EXTRA, *(conjunct for rule in system.rules for conjunct in rule.guard)])
        self.unread = [i for i, (function, _) in enumerate(layout.cells) if function.name not in read]
        self._runs: dict[Move, Run] = {}
        self._starts: dict[Pages, Situation] = {}
        self._known: dict[Any, Returns | None] = {}
        self._seen: dict[State, tuple[tuple[int | None, ...], int, int]] = {}
        self._renamed: dict[Any, tuple[State, tuple[int, ...]]] = {}
        self._moved: dict[Any, list[tuple[int, tuple[int, ...] | None]]] = {}

    def canonical(self, state: State) -> State:
        """The state with frames and slots numbered by their use, and without what no rule and no user looks at."""
        cleared = list(state)
        for cell in self.unread:
            cleared[cell] = 0
        state = tuple(cleared)
        for symmetry in self.symmetries:
            state = symmetry.canonical(state)
        return state

    def start(self, pages: Pages) -> Situation:
        """Before the first operation."""
        if pages in self._starts:
            return self._starts[pages]
        # A test that reads has the zero page at hand from its start on.
        test = _test(self.bounds, pages, (_statement(Move(_READ, 0, (("v", 0),))),))
        state = self.canonical(Run(test, self.kernel, self.interpreter).start.state)
        return self._starts.setdefault(pages, Situation(state))

    def after(self, move: Move, situation: Situation) -> Returns | None:
        """What the operation may return, and the situations then; None where the model cannot follow it."""
        state, names = self.abstracted(situation.state)
        stored = dict(move.bound).get("n")
        if stored is not None:
            values = (0, *names) if stored in names else (0, *names, stored)
            move = move._replace(bound=tuple((x, values.index(i) if x == "n" else i) for x, i in move.bound))
        else:
            values = (0, *names)
        key = (move, state, situation.lock_fails)
        if key not in self._known:
            self._known[key] = self._after(move, situation._replace(state=state))
        known = self._known[key]
        if known is None:
            return None
        return {
            returned: frozenset(s._replace(state=self._with_values(s.state, values)) for s in found)
            for returned, found in known.items()
        }

    def _after(self, move: Move, situation: Situation) -> Returns | None:
        if move not in self._runs:
            test = _test(self.bounds, (frozenset(),) * self.bounds.pages, (_statement(move),))
            self._runs[move] = Run(test, self.kernel, self.interpreter)
        ends, stuck = self._runs[move].ends(situation)
        if stuck:
            return None
        found: dict[str, set[Situation]] = {}
        for end in ends:
            returned = "refused" if end.refused else "blocked" if end.blocked else "done"
            after = end.situation._replace(state=self.canonical(end.situation.state))
            found.setdefault(returned, set()).add(after)
        return {returned: frozenset(situations) for returned, situations in found.items()}

    def after_all(self, move: Move, situations: frozenset[Situation]) -> Returns | None:
        """As `after`, of several situations."""
        together: Returns = {}
        for situation in situations:
            found = self.after(move, situation)
            if found is None:
                return None
            for returned, after in found.items():
                together[returned] = together.get(returned, frozenset()) | after
        return together

    def outcomes(self, pages: Pages, sequence: Sequence[Move]) -> frozenset[Any] | None:
        """What a user may see of the whole sequence: what its calls returned, and what is there in the end."""
        found: dict[tuple[str, ...], frozenset[Situation]] = {(): frozenset({self.start(pages)})}
        for move in sequence:
            following: dict[tuple[str, ...], frozenset[Situation]] = {}
            for returned, situations in found.items():
                if returned[-1:] == ("blocked",):
                    following[returned] = situations
                    continue
                after = self.after_all(move, situations)
                if after is None:
                    return None
                following |= {(*returned, last): then for last, then in after.items()}
            found = following
        return frozenset(
            (returned, self.seen(s.state)) for returned, situations in found.items() for s in situations
        )

    def abstracted(self, state: State) -> tuple[State, tuple[int, ...]]:
        """The state with values numbered by their first occurrence, and what they were; 0 stays."""
        names: dict[int, int] = {0: 0}
        for cell in self.valued:
            names.setdefault(state[cell], len(names))
        return self._with_values(state, names), tuple(names)[1:]

    def _with_values(self, state: State, values: Mapping[int, int] | Sequence[int]) -> State:
        changed = list(state)
        for cell in self.valued:
            changed[cell] = values[state[cell]]
        return tuple(changed)

    def seen(self, state: State) -> tuple[int | None, ...]:
        """What each process loads from each page, and each reference sees; None where there is nothing."""
        return self._looked(state)[0]

    def room(self, state: State) -> tuple[int, int]:
        """How many swap slots and transient references are in use."""
        return self._looked(state)[1:]

    def _looked(self, state: State) -> tuple[tuple[int | None, ...], int, int]:
        if state not in self._seen:
            interpreter, scope = self.interpreter, self.interpreter.scope
            loads = [
                value_loaded(interpreter, state, p, v)
                for p in range(scope.size(Proc)) for v in range(scope.size(Page))
            ]
            sees = [value_seen(interpreter, state, k) for k in range(scope.size(Pin))]
            slots = slots_used(interpreter, state)
            extras = sum(bool(interpreter.evaluate(_EXTRA, state, {"f": f})) for f in range(scope.size(Frame)))
            self._seen[state] = ((*loads, *sees), slots, extras)
        return self._seen[state]

    def renamed(self, state: State, names: Mapping[str, tuple[int, ...]]) -> tuple[State, tuple[int, ...]]:
        """The state with other numbers for processes, pages and references; its values as `abstracted` has them.

        `names`: sort to the new number of each element.
        """
        key = (state, *names.values())
        if key not in self._renamed:
            moved = list(state)
            for (target, new), value in zip(self._targets(names), state, strict=True):
                moved[target] = value if new is None else new[value]
            # What does not matter stays the first element.
            self._renamed[key] = self.abstracted(self.canonical(self.interpreter.canonical(tuple(moved))))
        return self._renamed[key]

    def _targets(self, names: Mapping[str, tuple[int, ...]]) -> list[tuple[int, tuple[int, ...] | None]]:
        """For each cell where it goes, and the new numbers for its value if that is an element with one."""
        key = tuple(names.values())
        if key not in self._moved:
            layout = self.interpreter.layout
            self._moved[key] = []
            for function, index in layout.cells:
                sorts = [s.name() for s in function.domain]
                at = tuple(names[s][i] if s in names else i for s, i in zip(sorts, index, strict=True))
                self._moved[key].append((layout.position[function.name][at], names.get(function.range.name())))
        return self._moved[key]


# Sequences


def _statement(move: Move) -> Statement:
    return Statement(1, move.operation.word, move.operation, ({"p": move.p, "q": move.p, **dict(move.bound)},))


def _test(bounds: Bounds, pages: Sequence[frozenset[str]], statements: tuple[Statement, ...]) -> Litmus:
    """A test of those statements with all names that there may be, and no question."""
    declared = tuple(PageDeclaration(n, n, words) for n, words in zip(PAGES, pages, strict=False))
    values = tuple(range(bounds.scope().as_dict()["Value"]))
    return Litmus(
        "diff", "", "diff", frozenset(), PROCESSES[:bounds.processes], declared, REFERENCES[:bounds.references],
        values, statements, "exists", z3.BoolVal(True), (), "",
    )


def operations(features: Iterable[str], own: Iterable[Operation] = ()) -> tuple[Operation, ...]:
    """The operations of which sequences are made, `own` among them; of several that have the same rules the first."""
    found: dict[Any, Operation] = {}
    for operation in (*OPERATIONS, *own):
        if operation.features <= {*features, *ALWAYS}:
            same = (operation.arguments, operation.goal, operation.refusal, operation.access, operation.actor)
            found.setdefault(same, operation)
    return tuple(found.values())


def _moves(node: Possibility, known: Sequence[Operation], bounds: Bounds, sides: Sequence[Side]) -> Iterator[Move]:
    """The operations that may come next."""
    stored = {value for move in node.came for name, value in move.bound if name == "n"}
    # KSM compares values: a store may repeat one. To all others they are names.
    merging = any(operation.word == "ksm" for operation in known)
    alive = [p for p, is_ in enumerate(node.processes) if is_ == "alive"]
    unused = [k for k, held in enumerate(node.held) if held is None][:1]
    rooms = [side.room(s.state) for side, found in zip(sides, node.sides, strict=True) for s in found]
    for operation in known:
        if operation.word == "pageout" and any(slots >= bounds.slots for slots, _ in rooms):
            continue
        if operation.word == "extra-ref" and any(extras >= bounds.extras for _, extras in rooms):
            continue
        choices: dict[str, list[int]] = {
            "v": list(range(bounds.pages)), "w": list(range(bounds.pages)),
            "n": [len(stored) + 1, *(sorted(stored) if merging else ())],
            "child": [p for p, is_ in enumerate(node.processes) if is_ == "new"][:1],
            "k": unused if operation.reference else [
                k for k, held in enumerate(node.held)
                if held is not None and (held.write or operation.word != "dma")
            ],
        }
        names = (*operation.arguments, *(["k"] if operation.reference else []))
        for chosen in itertools.product(*(choices[name] for name in names)):
            bound = dict(zip(names, chosen, strict=True))
            if "w" in bound and bound["v"] == bound["w"]:
                continue
            holder = node.held[bound["k"]] if "k" in bound and not operation.reference else None
            actors = [0] if operation.actor == "kernel" else alive if holder is None else [holder.holder]
            yield from (Move(operation, p, tuple(bound.items())) for p in actors)


def _next(node: Possibility, move: Move, returned: str, sides: tuple[Any, Any]) -> Possibility:
    processes, held, bound = list(node.processes), list(node.held), dict(move.bound)
    if returned == "done":
        if move.operation.word == "exit":
            processes[move.p] = "exited"
        if "child" in bound:
            processes[bound["child"]] = "alive"
        if move.operation.reference:
            held[bound["k"]] = Held(move.p, "write" in move.operation.flags)
        if move.operation.word == "drop":
            held[bound["k"]] = None
    return Possibility(sides, tuple(processes), tuple(held), node.pages, (*node.came, move))


class _Names:
    """The renamings of processes other than the first, pages and references."""

    def __init__(self, bounds: Bounds) -> None:
        procs = [(0, *rest) for rest in itertools.permutations(range(1, bounds.processes))]
        pages = list(itertools.permutations(range(bounds.pages)))
        pins = list(itertools.permutations(range(bounds.references)))
        self.all = [
            {"Proc": p, "Page": v, "Block": v, "Pin": k} for p, v, k in itertools.product(procs, pages, pins)
        ]

    def key(self, node: Possibility, sides: Sequence[Side]) -> Any:
        """Equal for nodes that differ by names only."""
        return min(self._key(node, sides, names) for names in self.all)

    @staticmethod
    def _key(node: Possibility, sides: Sequence[Side], names: Mapping[str, tuple[int, ...]]) -> Any:
        def moved(of: Sequence[Any], sort: str) -> tuple[Any, ...]:
            return tuple(of[names[sort].index(i)] for i in range(len(of)))

        held = moved([None if h is None else h._replace(holder=names["Proc"][h.holder]) for h in node.held], "Pin")
        values: dict[int, int] = {}
        found = []
        for side, situations in zip(sides, node.sides, strict=True):
            renamed = sorted((*side.renamed(s.state, names), s.lock_fails) for s in situations)
            found.append(tuple(
                (state, tuple(values.setdefault(n, len(values)) for n in originals), fails)
                for state, originals, fails in renamed
            ))
        pages = tuple(tuple(sorted(words)) for words in moved(node.pages, "Page"))
        return (tuple(h or () for h in held), moved(node.processes, "Proc"), pages, *found)


@dataclass(frozen=True)
class SearchResult:
    """What a search did. `depth`: it looked at every sequence of at most so many operations. `complete`: and of any
    length. `stopped`: why it ended before the depth asked for. `unfollowed`: how often an operation was left out
    because the model has no rule for it there."""

    nodes: int
    depth: int
    complete: bool
    stopped: str
    unfollowed: int


def search(
    a: Side, b: Side, features: Sequence[str], bounds: Bounds, found: Callable[[Pages, tuple[Move, ...]], Any],
    progress: Callable[[int, int, int], Any],
) -> SearchResult:
    """Follow both kernels; `found(pages, sequence)` is told each sequence that differs and whose beginning does not;
    once it says True, that is enough.

    `progress(depth, done, nodes of that depth)`. Raises Interrupted with the result so far.
    """
    reached = [SearchResult(0, 0, False, INTERRUPTED, 0)]
    try:
        return _followed(a, b, features, bounds, found, progress, reached)
    except KeyboardInterrupt as error:
        raise Interrupted(reached[0]) from error


INTERRUPTED = "interrupted"
"""What `SearchResult.stopped` says then."""


def _followed(
    a: Side, b: Side, features: Sequence[str], bounds: Bounds, found: Callable[[Pages, tuple[Move, ...]], Any],
    progress: Callable[[int, int, int], Any], reached: list[SearchResult],
) -> SearchResult:
    """As `search`; how far it is stands in `reached`."""
    started = time.monotonic()
    sides, names = (a, b), _Names(bounds)
    known = operations(features, own_operations(side.kernel for side in sides))
    level: list[Possibility] = []
    for pages in itertools.combinations_with_replacement(_page_kinds(features, sides), bounds.pages):
        starts = frozenset({a.start(pages)}), frozenset({b.start(pages)})
        processes = ("alive", *["new"] * (bounds.processes - 1))
        level.append(Possibility(starts, processes, (None,) * bounds.references, pages, ()))
    seen = {names.key(node, sides) for node in level}
    unfollowed = 0
    for depth in range(1, bounds.depth + 1):
        following: list[Possibility] = []
        for done, node in enumerate(level):
            reached[0] = SearchResult(len(seen), depth - 1, False, INTERRUPTED, unfollowed)
            progress(depth, done, len(level))
            if bounds.seconds is not None and time.monotonic() - started > bounds.seconds:
                return SearchResult(len(seen), depth - 1, False, f"out of time after {bounds.seconds:g} s", unfollowed)
            for move in _moves(node, known, bounds, sides):
                after = a.after_all(move, node.sides[0]), b.after_all(move, node.sides[1])
                if after[0] is None or after[1] is None:
                    unfollowed += 1
                    continue
                new = {}
                for returned in sorted({*after[0], *after[1]}):
                    both = after[0].get(returned, frozenset()), after[1].get(returned, frozenset())
                    child = _next(node, move, returned, both)
                    if (key := names.key(child, sides)) not in seen:
                        new[key] = (returned, child)
                if any(_differ(child, sides) for _, child in new.values()):
                    if found(node.pages, (*node.came, move)):
                        return SearchResult(len(seen), depth - 1, False, "one is found", unfollowed)
                    continue
                seen.update(new)
                # A thread that waits for the monitor ends the test.
                following += [child for returned, child in new.values() if returned != "blocked"]
        level = following
        if not level:
            return SearchResult(len(seen), depth, True, "", unfollowed)
    return SearchResult(len(seen), bounds.depth, False, "", unfollowed)


def _page_kinds(features: Sequence[str], sides: Sequence[Side]) -> list[frozenset[str]]:
    """How a page may be declared. A registered one can do all that others can, where only userfaultfd asks."""
    asking = {
        rule.name for side in sides for rule in side.interpreter.system.rules
        if vma_uffd.name in frozenset().union(*(functions_in(t) for t in rule.guard)) | {
            name for u in rule.updates for t in (u.value, u.when, *u.index) for name in functions_in(t)
        }
    }
    uffd = [o for o in OPERATIONS if o.word.startswith("uffd-")]
    own = {name for o in uffd for name in (*o.goal, *o.refusal, *o.whole, *o.whole_refusal)}
    plain = [] if asking <= own else [()]
    return [frozenset(words) for words in (*plain, ("uffd",), *([("file",)] if "file" in features else []))]


def _differ(node: Possibility, sides: tuple[Side, Side]) -> bool:
    seen = [{side.seen(s.state) for s in found} for side, found in zip(sides, node.sides, strict=True)]
    return seen[0] != seen[1]
