"""A hash-consed Boolean circuit of AND and XOR gates: what grounded terms become.

A literal is an int: gate number times two, plus one if complemented; 0 is false and 1 is true.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from proofs.clock import look

FALSE, TRUE = 0, 1


class Circuit:
    """Gates in topological order. `gates[i]`: ("in", name), ("and", a, b) or ("xor", a, b) over literals."""

    def __init__(self) -> None:
        self.gates: list[tuple[str, int, int]] = [("const", 0, 0)]
        self.inputs: list[str] = []
        self._known: dict[tuple[str, int, int], int] = {}

    def input(self, name: str) -> int:
        """A new input; returns its literal."""
        self.inputs.append(name)
        self.gates.append(("in", len(self.inputs) - 1, 0))
        return 2 * (len(self.gates) - 1)

    def _gate(self, op: str, a: int, b: int) -> int:
        key = (op, a, b) if a < b else (op, b, a)
        found = self._known.get(key)
        if found is None:
            self.gates.append(key)
            found = self._known[key] = 2 * (len(self.gates) - 1)
        return found

    def and2(self, a: int, b: int) -> int:
        """Conjunction of two literals."""
        if FALSE in (a, b) or a == b ^ 1:
            return FALSE
        if a in (TRUE, b):
            return b
        if b == TRUE:
            return a
        return self._gate("and", a, b)

    def xor2(self, a: int, b: int) -> int:
        """Exclusive or of two literals."""
        sign = (a ^ b) & 1
        a, b = a & ~1, b & ~1
        if a == b:
            return sign
        if a == FALSE:
            return b ^ sign
        if b == FALSE:
            return a ^ sign
        return self._gate("xor", a, b) ^ sign

    def all(self, literals: Iterable[int]) -> int:
        """Conjunction."""
        # Whatever makes a circuit large comes by here.
        look()
        result = TRUE
        for literal in sorted(set(literals)):
            result = self.and2(result, literal)
            if result == FALSE:
                break
        return result

    def any(self, literals: Iterable[int]) -> int:
        """Disjunction."""
        return self.all(literal ^ 1 for literal in literals) ^ 1

    def ite(self, c: int, a: int, b: int) -> int:
        """If c then a else b."""
        if c == TRUE or a == b:
            return a
        if c == FALSE:
            return b
        if a == b ^ 1:
            return self.xor2(c, b)
        return self.and2(self.and2(c, a) ^ 1, self.and2(c ^ 1, b) ^ 1) ^ 1

    def conjuncts(self, literal: int) -> list[int]:
        """The literals of which the given one is the conjunction; itself if it is none."""
        found, stack = [], [literal]
        while stack:
            one = stack.pop()
            op, a, b = self.gates[one >> 1]
            if op == "and" and not one & 1:
                stack += [a, b]
            else:
                found.append(one)
        return found

    def assuming(self, true: Iterable[int], literals: Sequence[int]) -> list[int]:
        """The literals simplified for where all of `true` hold."""
        known = {0: FALSE}
        for literal in true:
            known[literal >> 1] = literal & 1 ^ 1
        for gate in self.cone(literals):
            if gate not in known:
                op, a, b = self.gates[gate]
                if op == "in":
                    known[gate] = 2 * gate
                else:
                    combine = self.and2 if op == "and" else self.xor2
                    known[gate] = combine(known[a >> 1] ^ a & 1, known[b >> 1] ^ b & 1)
        return [known[literal >> 1] ^ literal & 1 for literal in literals]

    def cone(self, literals: Iterable[int], known: Container[int] = ()) -> list[int]:
        """Numbers of the gates that the literals depend on, in topological order, without those `known`."""
        wanted: set[int] = set()
        stack = [literal >> 1 for literal in literals]
        while stack:
            gate = stack.pop()
            if gate in wanted or 2 * gate in known:
                continue
            wanted.add(gate)
            op, a, b = self.gates[gate]
            if op in ("and", "xor"):
                stack += [a >> 1, b >> 1]
        return sorted(wanted)
