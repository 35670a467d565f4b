"""What a step does to the words of a packed state: bits that become constants, bits moved, and only then circuits."""

from __future__ import annotations

from dataclasses import dataclass

from proofs.clock import look
from proofs.derive.circuit import FALSE, TRUE
from proofs.derive.ground import GroundedStep, Grounder
from proofs.explore.layout import ALL


@dataclass(frozen=True)
class WordChange:
    """What a step does to one word of the state: (word & keep) | set, and what depends on the state.

    `moves`: (source word, distance to the left, mask of the targets). `chosen`: (bit's mask, literal of its value).
    """

    keep: int
    set: int
    moves: tuple[tuple[int, int, int], ...]
    chosen: tuple[tuple[int, int], ...]


UNCHANGED = WordChange(ALL, 0, (), ())


def changes(grounder: Grounder, step: GroundedStep, words: int) -> list[WordChange]:
    """For each word of a state what the step does to it, given that its guard holds."""
    look()
    circuit = grounder.circuit
    known = circuit.assuming(circuit.conjuncts(step.guard), [literal for _, literal in step.bits])
    place_of_input = {literal: bit for bit, literal in enumerate(grounder.inputs)}
    keep = [ALL] * words
    ones = [0] * words
    moves: list[dict[tuple[int, int], int]] = [{} for _ in range(words)]
    chosen: list[list[tuple[int, int]]] = [[] for _ in range(words)]
    for (bit, _), literal in zip(step.bits, known, strict=True):
        word, place = divmod(bit, 64)
        mask = 1 << place
        if literal == grounder.inputs[bit]:
            continue
        keep[word] &= ~mask
        if literal == TRUE:
            ones[word] |= mask
        elif literal in place_of_input:
            source, at = divmod(place_of_input[literal], 64)
            moves[word][source, place - at] = moves[word].get((source, place - at), 0) | mask
        elif literal != FALSE:
            chosen[word].append((mask, literal))
    return [
        WordChange(keep[w], ones[w], tuple((s, d, m) for (s, d), m in moves[w].items()), tuple(chosen[w]))
        for w in range(words)
    ]
