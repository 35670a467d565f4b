"""A kernel with a decision and a rule of its own, a promise of its own, and what comes of them.

python examples/mine.py
"""

from invariants import Invariant
from model import V5_9, And, Kernel, Not, Operation, Or, Page, Param, Pin, Proc, Slot, Step, Term, put, rule
from model.state import (
    cached,
    live,
    mapped_only_by,
    maybe_pinned,
    pin_foll_pin,
    pin_frame,
    pin_live,
    pte_frame,
    pte_present,
    pte_uffd_wp,
    pte_write,
    slot_frame,
    vma_write,
)
from proofs import verdicts


def not_if_pinned(p: Term, v: Term, f: Term) -> Term:
    """5.9's rule, but a pinned page that one PTE maps is never copied."""
    return Or(V5_9.reuse(p, v, f), And(mapped_only_by(p, v, f), maybe_pinned(f)))


@rule([Param("p", Proc), Param("v", Page)], "nowhere yet", "the seed mail: the write bit being solid")
def repair(kernel: Kernel, p: Term, v: Term) -> Step:
    """A pinned page of a writable VMA that nobody else maps gets its write bit back."""
    f = pte_frame(p, v)
    pinned = And(pte_present(p, v), maybe_pinned(f), mapped_only_by(p, v, f))
    return Step([live(p, v), vma_write(p, v), pinned, Not(pte_uffd_wp(p, v))], put(pte_write(p, v), True))


MINE = V5_9.but(
    "mine", "5.9, reusing and repairing pinned pages", reuse=not_if_pinned, own_rules=(repair,),
    own_operations=(Operation("repair", ("v",), goal=("repair",), actor="either"),),
)

PINNED_NOT_SWAPPED = Invariant(
    "pinned-not-swapped", "a pinned page is not in the swap cache", "mine", (Pin, Slot),
    when=lambda k, s: And(pin_live(k), pin_foll_pin(k), cached(s)),
    then=lambda k, s: slot_frame(s) != pin_frame(k),
)

if __name__ == "__main__":
    for cell in verdicts([MINE, "v5.9"], [PINNED_NOT_SWAPPED, "coherence-write-pin", "isolation-mapping"]):
        print(f"{cell.kernel:21} {cell.invariant:35} {cell.verdict} {cell.length or cell.clauses}")
