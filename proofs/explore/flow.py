"""Functions of LLVM's: blocks, conditions and loops, around the instructions of `ir`.

Blocks have parameters, given by whoever goes there, in place of phi nodes; what a loop changes is given to its next
turn. Variables in memory would stay there: an optimisation pass that makes registers of them costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proofs.explore.ir import INT64, Body, Value, operand


class Block:
    """A block of a function; called with its parameters, it is the end of a jump."""

    __slots__ = ("arrivals", "function", "label", "parameters")

    def __init__(self, function: Function, name: str, *kinds: str) -> None:
        self.function, self.label = function, f"{name}{next(function.numbers)}"
        self.parameters = [Value(function, kind, f"%{self.label}.{i}") for i, kind in enumerate(kinds)]
        self.arrivals: list[tuple[str, tuple[Value | int, ...]]] = []

    def __call__(self, *given: Value | int) -> str:
        if given:
            self.arrivals.append((self.function.label, given))
        return f"label %{self.label}"

    def __str__(self) -> str:
        """The phi nodes."""
        lines = []
        for i, parameter in enumerate(self.parameters):
            origins = ", ".join(f"[ {operand(given[i])}, %{label} ]" for label, given in self.arrivals)
            lines.append(f"  {parameter.name} = phi {parameter.kind} {origins}")
        return "\n".join(lines)


class Function(Body):
    """An LLVM function, written from its entry on. `given`: its parameters' types, by name."""

    def __init__(self, result: str, name: str, /, attributes: str = "", **given: str) -> None:
        super().__init__()
        head = ", ".join(f"{kind} %{parameter}" for parameter, kind in given.items())
        self.parameters = [Value(self, kind.removesuffix(" noalias"), f"%{name}") for name, kind in given.items()]
        self.lines += [f"define {result} @{name}({head}) {attributes} {{", "entry:"]
        self.label, self.ended = "entry", False

    def __str__(self) -> str:
        return "\n".join([*map(str, self.lines), "}"])

    def block(self, name: str, *kinds: str) -> Block:
        return Block(self, name, *kinds)

    def _label(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.label, self.ended = label, False

    def begin(self, block: Block) -> list[Value]:
        """Go on writing in that block; gives its parameters."""
        self._label(block.label)
        if block.parameters:
            self.lines.append(block)
        return block.parameters

    def _end(self, instruction: str) -> None:
        self.write(instruction)
        self.ended = True

    def jump(self, where: str) -> None:
        self._end(f"br {where}")

    def branch(self, condition: Value, then: str, otherwise: str) -> None:
        self._end(f"br i1 {condition.name}, {then}, {otherwise}")

    def ret(self, value: Value | None = None) -> None:
        self._end(f"ret {value.kind} {value.name}" if value is not None else "ret void")

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """What is written inside is done if the condition holds."""
        number = next(self.numbers)
        self.branch(condition, f"label %then{number}", f"label %else{number}")
        self._label(f"then{number}")
        yield
        if not self.ended:
            self.jump(f"label %else{number}")
        self._label(f"else{number}")

    @contextmanager
    def loop(self, *start: Value | int) -> Iterator[tuple[Callable[..., None], list[Value]]]:
        """What is written inside is done at least once, with values that are `start` at first.

        It ends with a call of the function that is given: the condition for another turn, and the values then.
        """
        body = self.block("loop", *(INT64 if isinstance(value, int) else value.kind for value in start))
        after = self.block("after")
        self.jump(body(*start))
        yield lambda condition, *values: self.branch(condition, body(*values), after()), self.begin(body)
        self.begin(after)

    @contextmanager
    def counting(self, end: Value | int, step: int = 1) -> Iterator[Value]:
        """What is written inside is done for the numbers from 0 on that are below `end`, which is not 0."""
        with self.loop(0) as (again, (number,)):
            yield number
            following = number + step
            again(following < end, following)

    @contextmanager
    def repeating(self, times: Value, *start: Value) -> Iterator[tuple[Callable[..., None], list[Value]]]:
        """What is written inside is done so many times, or never, with the turn's number and values: `start` at first.

        It ends with a call of the function that is given: the values of the next turn, or of afterwards.
        """
        head = self.block("turn", INT64, *(value.kind for value in start))
        body, after = self.block("body"), self.block("after")
        self.jump(head(0, *start))
        number, *values = self.begin(head)
        self.branch(number < times, body(), after())
        self.begin(body)
        yield lambda *following: self.jump(head(number + 1, *following)), [number, *values]
        self.begin(after)
