"""Specifications of the rules of model/hugetlb.py, in the form of rule_specs.py.

Most of MADE and WRITES were written from the rules and from memory when mutations went unnoticed, and
then asked of the model: they guard what it says, and are no evidence of what Linux does.
"""

from __future__ import annotations

from rule_specs import EVERYWHERE, EXCLUSIVE, Spec

PAGE = ("page x hugetlb",)
BEFORE_EARLY_COPY = ("v5.7", "v5.9", "v5.12", "debian-5.10")
EARLY_COPY = ("v5.14", "v5.18", "v5.19", "v6.12", "v7.2")
IGNORES_VMA = ("v5.14", "v5.18", "v5.19", "v6.12")

FAULTS = (
    Spec("a read fault maps a page of its own, read-only and clean", "A: read x",
         {"pte_present(A, x)": True, "pte_write(A, x)": False, "pte_dirty(A, x)": False, "nonanon(P)": False,
          "vma_anon(A, x)": True, "frame_value(P)": "0"}, ("hugetlb-fault", "load"), untouched=True,
         kernels=EVERYWHERE, pages=PAGE),
    Spec("... which is exclusive from 5.19 on", "A: read x", {"exclusive(P)": True}, untouched=True,
         kernels=EXCLUSIVE, pages=PAGE),
    Spec("a write to an empty PTE takes the page that the same fault has mapped", "A: read x",
         {"pte_write(A, x)": True, "pte_dirty(A, x)": True, "pte_soft_dirty(A, x)": True, "pte_frame(A, x)": "P"},
         ("hugetlb-fault", "hugetlb-reuse", "store", "load"), kernels=EVERYWHERE, pages=PAGE),
    Spec("a page that is mapped once is taken, whoever refers to it", "A: fork C; C: exit; A: r = get x; A: write x 2",
         {"pte_frame(A, x)": "P", "pin_frame(r)": "P", "pte_write(A, x)": True},
         kernels=("v5.7", "v5.9", "v5.18", "v5.19", "v7.2"), pages=PAGE),
    Spec("one that is mapped twice is copied, and the copy is writable", "A: fork C; A: write x 2",
         {"pte_frame(A, x)": "Q", "pte_frame(C, x)": "P", "pte_write(A, x)": True, "pte_write(C, x)": False,
          "frame_value(Q)": "2"}, ("hugetlb-fault", "hugetlb-reuse", "store", "fork", "hugetlb-copy", "store"),
         kernels=EVERYWHERE, pages=PAGE),
    Spec("... and exclusive from 5.19 on", "A: fork C; A: write x 2", {"exclusive(Q)": True, "exclusive(P)": False},
         kernels=EXCLUSIVE, pages=PAGE),
    Spec("a FOLL_PIN for reading copies a shared page, from 5.19 on, read-only", "A: fork C; A: r = pin x",
         {"pte_frame(A, x)": "Q", "pte_write(A, x)": False, "exclusive(Q)": True, "frame_value(Q)": "1",
          "pte_dirty(A, x)": False, "pte_soft_dirty(A, x)": False, "pte_dirty(C, x)": True},
         ("hugetlb-fault", "hugetlb-reuse", "store", "fork", "hugetlb-unshare-copy", "pin-read"), kernels=EXCLUSIVE,
         pages=PAGE),
    Spec("... and takes one that is mapped once, read-only as it is", "A: fork C; C: exit; A: r = pin x",
         {"pte_frame(A, x)": "P", "pte_write(A, x)": False, "exclusive(P)": True}, kernels=EXCLUSIVE, pages=PAGE),
)

WRITES = (
    Spec("a write fault of a page that is mapped once makes the PTE dirty", "A: read x; A: r = get x write",
         {"pte_dirty(A, x)": True, "pte_write(A, x)": True, "pte_soft_dirty(A, x)": True}, kernels=EVERYWHERE,
         untouched=True, pages=PAGE),
    Spec("... there is none where the PTE is writable, nor of a small page", "A: fork C; A: write y 1",
         {"pte_write(A, y)": True, "pte_write(A, x)": False},
         never=(("hugetlb-reuse", "p=A v=x"), ("hugetlb-reuse", "p=A v=y"), ("hugetlb-copy", "p=A v=x new=S"),
                ("hugetlb-unshare-copy", "p=A v=x new=S")), kernels=EVERYWHERE, pages=("page x", "page y hugetlb")),
    Spec("... nor of one whose other mapper has gone", "A: fork C; C: exit", {"pte_write(A, x)": False},
         never=(("hugetlb-reuse", "p=A v=x"), ("hugetlb-unshare-reuse", "p=A v=x")), kernels=EVERYWHERE,
         pages=("page x", "page y hugetlb")),
    Spec("... which makes a hugetlb page exclusive again, from 5.19 on", "A: fork C; C: exit; A: r = get x write",
         {"exclusive(P)": True, "pte_frame(A, x)": "P"}, kernels=EXCLUSIVE, pages=PAGE),
    Spec("a copy is dirty, too, be the page clean", "A: read x; A: fork C; A: r = get x write",
         {"pte_frame(A, x)": "Q", "pte_dirty(A, x)": True, "pte_soft_dirty(A, x)": True, "pte_dirty(C, x)": False},
         kernels=EVERYWHERE, untouched=True, pages=PAGE),
    Spec("... and there is no fault for it where the VMA is read-only",
         "A: mprotect x ro; A: fork C; *: hugetlb-drain x", {"pte_write(A, x)": False, "pte_frame(C, x)": "P"},
         never=(("hugetlb-take-back", "p=A v=x"), ("hugetlb-copy-refused", "p=C v=x")), kernels=EVERYWHERE,
         pages=PAGE),
    Spec("... or the VMA is read-only, be the page mapped once", "A: mprotect x ro; A: fork C; C: exit",
         {"pte_write(A, x)": False}, never=(("hugetlb-reuse", "p=A v=x"),), kernels=EVERYWHERE, pages=PAGE),
    Spec("nothing is unshared that is exclusive", "A: read x", {"exclusive(P)": True, "pte_write(A, x)": False},
         never=(("hugetlb-unshare-reuse", "p=A v=x"),), kernels=EXCLUSIVE, untouched=True, pages=PAGE),
    Spec("... or the VMA is read-only", "A: mprotect x ro; A: fork C", {"pte_write(A, x)": False},
         never=(("hugetlb-reuse", "p=A v=x"), ("hugetlb-copy", "p=A v=x new=Q"), ("hugetlb-take-back", "p=A v=x")),
         kernels=EVERYWHERE, pages=PAGE),
)

FORKS = (
    Spec("fork shares a pinned page up to 5.12", "A: r = pin x write; A: fork C",
         {"pte_frame(C, x)": "P", "pte_write(A, x)": False}, kernels=BEFORE_EARLY_COPY, pages=PAGE),
    Spec("... so that it needs no page of the pool", "A: r = pin x write; *: hugetlb-drain x",
         never=(("fork-refused", "p=A"),), kernels=BEFORE_EARLY_COPY, pages=PAGE),
    Spec("... and copies it from 5.13 on", "A: r = pin x write; A: fork C",
         {"pte_frame(C, x)": "Q", "pte_write(C, x)": True, "pte_write(A, x)": True, "pte_dirty(C, x)": True},
         kernels=EARLY_COPY, pages=PAGE),
    Spec("... writable though the VMA is read-only, as far as 6.12", "A: r = pin x write; A: mprotect x ro; A: fork C",
         {"vma_write(C, x)": False, "pte_write(C, x)": True}, kernels=IGNORES_VMA, pages=PAGE),
    Spec("... not in 7.2", "A: r = pin x write; A: mprotect x ro; A: fork C",
         {"vma_write(C, x)": False, "pte_write(C, x)": False}, kernels=("v7.2",), pages=PAGE),
    Spec("the copy of a small page was never writable there", "A: r = pin x write; A: mprotect x ro; A: fork C",
         {"vma_write(C, x)": False, "pte_write(C, x)": False}, kernels=IGNORES_VMA, pages=("page x",)),
    Spec("a child owns no reservation", "A: fork C",
         {"vma_resv_owner(A, x)": True, "vma_resv_owner(C, x)": False, "vma_resv_unmapped(C, x)": False},
         kernels=EVERYWHERE, pages=PAGE),
    Spec("a grandchild is not told that its parent's page was taken away",
         "A: fork C; *: hugetlb-drain x; A: write x 2; C: fork D",
         {"vma_resv_unmapped(C, x)": True, "vma_resv_unmapped(D, x)": False}, kernels=EVERYWHERE, pages=PAGE),
)

POOL = (
    Spec("the owner that cannot copy takes the page from its children, and then for itself",
         "A: fork C; *: hugetlb-drain x; A: write x 2",
         {"pte_present(C, x)": False, "vma_resv_unmapped(C, x)": True, "pte_frame(A, x)": "P", "pte_write(A, x)": True},
         ("hugetlb-fault", "hugetlb-reuse", "store", "fork", "hugetlb-drain", "hugetlb-take-back", "hugetlb-reuse",
          "store"), never=(("hugetlb-fault", "p=C v=x new=Q"), ("store-refused", "p=C v=x")), kernels=EVERYWHERE,
         pages=PAGE),
    Spec("... also to pin it for reading, from 5.19 on", "A: fork C; *: hugetlb-drain x; A: r = pin x",
         {"pte_present(C, x)": False, "vma_resv_unmapped(C, x)": True, "pin_frame(r)": "P", "pte_write(A, x)": False},
         kernels=EXCLUSIVE, pages=PAGE),
    Spec("... not where it has a page for a copy", "A: fork C",
         never=(("hugetlb-take-back", "p=A v=x"), ("hugetlb-unshare-take-back", "p=A v=x"),
                ("hugetlb-unshare-refused", "p=C v=x")), kernels=EVERYWHERE, pages=PAGE),
    Spec("... and a child cannot take it from its parent", "A: fork C; *: hugetlb-drain x",
         never=(("hugetlb-take-back", "p=C v=x"), ("hugetlb-copy", "p=C v=x new=Q")), kernels=EVERYWHERE, pages=PAGE),
    Spec("... nor from another child", "A: fork C; A: fork D; *: hugetlb-drain x", {"pte_frame(D, x)": "P"},
         never=(("hugetlb-take-back", "p=C v=x"), ("hugetlb-unshare-take-back", "p=C v=x")), kernels=EVERYWHERE,
         pages=PAGE),
    Spec("a child that may copy is not refused", "A: fork C", {"pte_frame(C, x)": "P"},
         never=(("hugetlb-copy-refused", "p=C v=x"),), kernels=EVERYWHERE, pages=PAGE),
    Spec("... nor is one that has the page alone", "A: fork C; *: hugetlb-drain x; A: exit", {"pte_frame(C, x)": "P"},
         never=(("hugetlb-copy-refused", "p=C v=x"), ("hugetlb-unshare-refused", "p=C v=x")), kernels=EVERYWHERE,
         pages=PAGE),
    Spec("fork needs no page of the pool where it copies none", "*: hugetlb-drain x", {"pte_write(A, x)": True},
         never=(("fork-refused", "p=A"),), kernels=EARLY_COPY, pages=PAGE),
    Spec("... and is not refused where there is one", "A: r = pin x write", never=(("fork-refused", "p=A"),),
         kernels=EARLY_COPY, pages=PAGE),
    Spec("... nor is a reader's write fault of 5.8 in a read-only VMA",
         "A: mprotect x ro; A: fork C; *: hugetlb-drain x", never=(("hugetlb-unshare-refused", "p=C v=x"),),
         kernels=("v5.8",), pages=PAGE),
    Spec("nr_hugepages is about hugetlb pages", "A: read y", never=(("hugetlb-drain", "v=x"),), kernels=EVERYWHERE,
         pages=("page x", "page y hugetlb")),
    Spec("the reservation is its owner's alone", "A: fork C; *: hugetlb-drain x", untouched=True,
         never=(("hugetlb-fault", "p=C v=x new=P"), ("hugetlb-fault-refused", "p=A v=x")), kernels=EVERYWHERE,
         pages=PAGE),
    Spec("fork that has no page for the early copy fails", "A: r = pin x write; *: hugetlb-drain x; A: fork C",
         {"alive(C)": False, "pte_write(A, x)": True},
         ("hugetlb-fault", "hugetlb-reuse", "store", "pin-write", "hugetlb-drain", "fork-refused"), kernels=EARLY_COPY,
         pages=PAGE),
)

SPARED = (
    Spec("clear_refs passes over it", "A: clear-soft-dirty",
         {"pte_write(A, x)": True, "pte_soft_dirty(A, x)": True, "vma_soft_dirty(A)": False}, kernels=EVERYWHERE,
         pages=PAGE),
    Spec("mprotect gives no write bit back", "A: mprotect x ro; A: mprotect x rw",
         {"vma_write(A, x)": True, "pte_write(A, x)": False}, kernels=EVERYWHERE, pages=PAGE),
    Spec("reclaim does not take it", "A: read x", never=(("swap-out", "f=P s=s0"),), kernels=EVERYWHERE, pages=PAGE),
    Spec("rules for small pages leave it alone", "A: fork C",
         never=(("wp-reuse", "p=A v=x"), ("wp-copy", "p=A v=x new=Q"), ("dontneed", "p=A v=x")), kernels=EVERYWHERE,
         pages=PAGE),
    Spec("... and it does not become the zero page's", "A: read y",
         {"backed(x)": False, "backed(y)": True}, kernels=("v5.9", "v7.2"), untouched=True, pages=(*PAGE, "page y")),
)

MADE = (
    Spec("mmap reserves a page for the process that maps it, registered with nothing", "A: read y",
         {"hugetlb(x)": True, "vma_resv_owner(A, x)": True, "vma_resv_unmapped(A, x)": False, "vma_uffd(A, x)": False,
          "pte_present(A, x)": False}, then=(("mmap-hugetlb", "p=A v=x"),), never=(("mmap-hugetlb", "p=A v=x"),),
         kernels=EVERYWHERE, untouched=True, pages=("page x uffd", "page y hugetlb")),
    Spec("... not mergeable", "A: unmerge z; A: read y", {"vma_mergeable(A, x)": False},
         then=(("madvise-mergeable", "p=A v=x"), ("mmap-hugetlb", "p=A v=x")), kernels=EVERYWHERE, untouched=True,
         pages=("page x", "page y hugetlb", "page z")),
    Spec("... where one process has anonymous memory that was not touched",
         "A: write w 1; *: pageout w; A: munmap z; A: write x 1; A: read y", {"pte_swap(A, w)": True},
         never=tuple(("mmap-hugetlb", f"p=A v={page}") for page in "xyzw"), kernels=EVERYWHERE,
         untouched=True, pages=("page x", "page y hugetlb", "page z", "page w")),
    Spec("... which a file is not", "A: read y",
         never=(("mmap-hugetlb", "p=A v=x"),), kernels=EVERYWHERE, untouched=True,
         pages=("page x file 5", "page y hugetlb")),
    Spec("... nor what a child has, too", "A: fork C", never=(("mmap-hugetlb", "p=A v=x"),), kernels=EVERYWHERE,
         untouched=True, pages=("page x", "page y hugetlb")),
    Spec("... nor the place of a THP", "A: dontneed x; A: read y", never=(("mmap-hugetlb", "p=A v=x.0"),),
         kernels=EVERYWHERE, untouched=True, pages=("page x huge 2", "page y hugetlb")),
    Spec("... and not if the pool has no page to reserve", "*: hugetlb-drain y", never=(("mmap-hugetlb", "p=A v=x"),),
         kernels=EVERYWHERE, untouched=True, pages=("page x", "page y hugetlb")),
)

HUGETLB_SPECS = (*MADE, *FAULTS, *WRITES, *FORKS, *POOL, *SPARED)
