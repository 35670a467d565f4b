"""A circuit simulator for the tests: one Python integer per gate, bit i of it the gate's value in state i."""

from __future__ import annotations

from collections.abc import Sequence

from proofs.derive.circuit import Circuit


class Simulation:
    """The values of all gates of a circuit in each of those packed states."""

    def __init__(self, circuit: Circuit, packed: Sequence[int]) -> None:
        self.everywhere = (1 << len(packed)) - 1
        self.planes: list[int] = []
        for op, a, b in circuit.gates:
            if op == "const":
                plane = 0
            elif op == "in":
                plane = int("".join("01"[state >> a & 1] for state in reversed(packed)), 2)
            elif op == "and":
                plane = self.plane(a) & self.plane(b)
            else:
                plane = self.plane(a) ^ self.plane(b)
            self.planes.append(plane)

    def plane(self, literal: int) -> int:
        """The literal's value in every state."""
        plane = self.planes[literal >> 1]
        return self.everywhere ^ plane if literal & 1 else plane


def ones(plane: int) -> list[int]:
    """Numbers of the states in which the plane is true."""
    found = []
    while plane:
        low = plane & -plane
        found.append(low.bit_length() - 1)
        plane ^= low
    return found
