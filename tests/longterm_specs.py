"""Specifications of the rules of model/longterm.py, in the form of rule_specs.py."""

from __future__ import annotations

from rule_specs import EVERYWHERE, EXCLUSIVE, Spec

PAGE = ("page x movable",)
CMA = ("page x cma",)
CMA_ALONE = ("v5.7", "v5.9", "v5.12", "debian-5.10")
BOTH = ("v5.14", "v5.18", "v5.19", "v6.12", "v7.2")

LONGTERM_SPECS = (
    Spec("user memory lies in ZONE_MOVABLE, and a short pin leaves it there", "A: r = pin x write",
         {"movable(P)": True, "cma(P)": False, "pin_frame(r)": "P"}, kernels=EVERYWHERE, pages=PAGE),
    Spec("a long-term pin moves it elsewhere, from 5.13 on, with what it holds", "A: r = pin x write longterm",
         {"pte_frame(A, x)": "Q", "movable(Q)": False, "frame_value(Q)": "1", "pte_write(A, x)": True,
          "memalloc_pin(A, x)": False},
         ("anon-fault", "store", "memalloc-pin-save", "longterm-migrate-write", "pin-write-longterm"), kernels=BOTH,
         pages=PAGE),
    Spec("... and it stays exclusive", "A: r = pin x write longterm", {"exclusive(Q)": True}, kernels=EXCLUSIVE,
         pages=PAGE),
    Spec("... before 5.13 it stays where it is", "A: r = pin x write longterm",
         {"pin_frame(r)": "P", "movable(P)": True}, ("anon-fault", "store", "pin-write-longterm"), kernels=CMA_ALONE,
         pages=PAGE),
    Spec("a page of CMA is moved by all of them", "A: r = pin x write longterm",
         {"pin_frame(r)": "Q", "cma(Q)": False}, kernels=(*CMA_ALONE, *BOTH), pages=CMA),
    Spec("what a long-term pin's fault allocates need not be moved", "A: r = pin x write longterm",
         {"pin_frame(r)": "P", "movable(P)": False},
         ("memalloc-pin-save", "anon-fault", "pin-write-longterm"), untouched=True, kernels=BOTH, pages=PAGE),
    Spec("... up to 5.12 it may lie in ZONE_MOVABLE, not in CMA",
         "A: r = pin x write longterm; A: s = pin y write longterm",
         {"movable(P)": True, "cma(Q)": False}, untouched=True, kernels=CMA_ALONE,
         pages=("page x movable", "page y cma")),
    Spec("what is allocated after it lies in ZONE_MOVABLE again",
         "A: r = pin x write longterm; A: drop r; A: dontneed x; A: write x 2", {"movable(P)": True}, kernels=BOTH,
         pages=PAGE),
    Spec("one that somebody holds is refused, and the next allocation is an ordinary one",
         "A: s = get x write; A: r = pin x write longterm; A: drop s; A: dontneed x; A: write x 2",
         {"memalloc_pin(A, x)": False, "movable(P)": True}, kernels=BOTH, pages=PAGE),
    Spec("what nobody holds is not refused", "A: fork C",
         never=(("longterm-refused-read", "p=A v=x"), ("longterm-refused-write", "p=A v=x")), kernels=BOTH, pages=PAGE),
    Spec("a shared page moves for both, up to 5.18", "A: fork C; A: r = pin x longterm",
         {"pte_frame(A, x)": "S", "pte_frame(C, x)": "S", "movable(S)": False, "pte_write(A, x)": False},
         kernels=("v5.14", "v5.18"), pages=PAGE),
    Spec("... from 5.19 on the pinner gets a copy elsewhere", "A: fork C; A: r = pin x longterm",
         {"pte_frame(A, x)": "S", "pte_frame(C, x)": "Q", "movable(S)": False, "movable(Q)": True},
         kernels=("v5.19", "v6.12", "v7.2"), pages=PAGE),
    Spec("migration for another reason brings it back", "A: r = pin x write longterm; A: drop r; *: migrate x",
         {"movable(P)": True, "pte_frame(A, x)": "P"}, kernels=BOTH, pages=PAGE),
    Spec("a move in the swap cache takes that along, and waits for its writing",
         "*: pageout x writing; A: read x; A: r = pin x write longterm",
         {"movable(S)": False, "pin_frame(r)": "S", "slot_frame(s0)": "S", "writeback(s0)": False}, kernels=("v7.2",),
         pages=PAGE),
)
