"""Specifications of the rules of model/swapin.py, in the form of rule_specs.py."""

from __future__ import annotations

from rule_specs import Spec

PAST = ("v5.7", "v5.9", "v5.12", "v5.18", "v5.19", "v6.1", "v6.12")
EXCLUSIVE_PAST = ("v5.19", "v6.1", "v6.12")
OUT = "*: pageout x sync"

SWAPIN_SPECS = (
    Spec("a read past the swap cache maps a fresh page, and the slot is free", f"{OUT}; A: read x",
         {"pte_present(A, x)": True, "cached(s0)": False, "pte_dirty(A, x)": False}, kernels=PAST, pages=("page x",)),
    Spec("... which is exclusive from 5.19 on", f"{OUT}; A: read x", {"exclusive(Q)": True}, kernels=EXCLUSIVE_PAST,
         pages=("page x",)),
    Spec("a write past it maps it writable and dirty", f"{OUT}; A: write x 2",
         {"pte_write(A, x)": True, "pte_dirty(A, x)": True, "cached(s0)": False, "frame_value(P)": "2"},
         ("anon-fault", "store", "swap-sync", "swap-out", "reclaim-swap-cache", "swap-in-sync-write", "store"),
         kernels=PAST, pages=("page x",)),
    Spec("a slot that two entries name is read through the swap cache", f"A: fork C; {OUT}; A: read x",
         {"cached(s0)": True}, never=(("swap-in-sync-read", "p=C v=x new=S"),), kernels=(*PAST, "v7.2"),
         pages=("page x",)),
    Spec("in 4.14 and 7.2 nothing goes past it", OUT, never=(("swap-in-sync-read", "p=A v=x new=Q"),),
         kernels=("v4.14", "v7.2"), pages=("page x",)),
    Spec("... in 7.2 the page leaves it as it is mapped", f"{OUT}; A: read x", {"cached(s0)": False}, kernels=("v7.2",),
         pages=("page x",)),
    Spec("... in 4.14 it stays", f"{OUT}; A: read x", {"cached(s0)": True}, kernels=("v4.14",), pages=("page x",)),
    Spec("a device that is not synchronous is read through the swap cache", "*: pageout x; A: read x",
         {"cached(s0)": True}, kernels=PAST, pages=("page x",)),
    Spec("uffd-wp keeps the write bit away", f"A: uffd-wp x; {OUT}; A: read x",
         {"pte_uffd_wp(A, x)": True, "pte_write(A, x)": False}, kernels=PAST, pages=("page x uffd",)),
    Spec("another device's slot is not read so", "A: write y 1; *: pageout x; *: pageout y sync",
         {"pte_swap(A, x)": True, "pte_swap(A, y)": True},
         never=(("swap-in-sync-read", "p=A v=x new=P"), ("swap-in-sync-write", "p=A v=x new=P")), kernels=PAST,
         pages=("page x", "page y")),
    Spec("a writer goes through the swap cache, too, where another entry names the slot", f"A: fork C; {OUT}",
         {"pte_swap(C, x)": True}, never=(("swap-in-sync-write", "p=A v=x new=Q"),), kernels=("v5.9", "v6.12"),
         pages=("page x",)),
    Spec("... or a page of it is there", f"*: extra-ref x; {OUT}", {"cached(s0)": True},
         never=(("swap-in-sync-write", "p=A v=x new=Q"), ("swap-in-sync-read", "p=A v=x new=Q")),
         kernels=("v5.9", "v6.12"), pages=("page x",)),
    Spec("... and none writes in a read-only VMA", f"{OUT}; A: mprotect x ro", {"pte_swap(A, x)": True},
         never=(("swap-in-sync-write", "p=A v=x new=P"),), kernels=("v5.9", "v6.12"), pages=("page x",)),
    Spec("what is written so is soft-dirty, and its entry gone", f"A: clear-soft-dirty; {OUT}; A: write x 2",
         {"pte_soft_dirty(A, x)": True, "pte_swap(A, x)": False, "pte_present(A, x)": True},
         kernels=("v5.9", "v6.12"), pages=("page x",)),
)
