"""Specifications of model/guard.py, and of what other rules do at a guard, in the form of rule_specs.py."""

from __future__ import annotations

from rule_specs import Spec

HAVE = ("v6.15", "v7.2")
FILLS, MENDED = ("v6.15", "v6.18"), ("v7.2", "v7.3-rc7")
BEFORE = ("v5.9", "v6.12")
X = ("page x",)
XY = ("page x", "page y")
FILE = ("page x file 3",)
HUGE = ("page x huge 2",)
ASYNC = ("page x uffd async",)

INSTALLED = (
    Spec("a guard comes where a page was, without its bits", "A: guard-install x",
         {"pte_guard(A, x)": True, "pte_present(A, x)": False, "pte_soft_dirty(A, x)": False,
          "pte_uffd_wp(A, x)": False, "vma(A, x)": True}, ("anon-fault", "store", "guard-install"), kernels=HAVE,
         pages=X),
    Spec("... not before 6.13", "A: guard-install x", {"pte_guard(A, x)": False, "pte_present(A, x)": True},
         ("anon-fault", "store", "guard-install-refused"), kernels=BEFORE, pages=X),
    Spec("the page's references live on, and follow it nowhere", "A: r = pin x write; A: guard-install x",
         {"pin_live(r)": True, "pin_attached(r)": False}, kernels=HAVE, pages=X),
    Spec("a swap slot is free then", "*: pageout x; A: guard-install x", {"pte_swap(A, x)": False, "cached(s0)": False},
         kernels=HAVE, pages=X),
    Spec("to install one where one is changes nothing of it",
         "A: guard-install x; A: pagemap-scan x; A: guard-install x",
         {"pte_guard(A, x)": True, "pte_uffd_wp(A, x)": True}, kernels=HAVE, untouched=True, pages=ASYNC),
    Spec("nor of its soft-dirty bit", "A: guard-install x; A: mremap x y; A: guard-install y",
         {"pte_guard(A, y)": True, "pte_soft_dirty(A, y)": True}, kernels=HAVE, pages=XY),
    Spec("without it there is nothing, and no marker", "A: guard-install x; A: pagemap-scan x; A: guard-remove x",
         {"pte_guard(A, x)": False, "pte_present(A, x)": False, "uffd_marker(A, x)": False}, kernels=HAVE,
         untouched=True, pages=ASYNC),
    Spec("to remove what is none leaves a marker of userfaultfd", "A: uffd-wp x; A: guard-remove x",
         {"uffd_marker(A, x)": True}, kernels=HAVE, untouched=True, pages=ASYNC),
    Spec("an anonymous VMA has an anon_vma then", "A: guard-install x; A: guard-remove x; A: read x; A: fork C",
         {"vma_anon(A, x)": True, "pte_present(C, x)": True}, kernels=HAVE, untouched=True, pages=X),
    Spec("one of a file up to 6.18", "A: guard-install x", {"vma_anon(A, x)": True, "vma_guard(A, x)": False},
         kernels=FILLS, untouched=True, pages=FILE),
    Spec("... then it has a flag, which a child inherits", "A: guard-install x; A: guard-remove x; A: fork C",
         {"vma_anon(A, x)": False, "vma_guard(A, x)": True, "vma_guard(C, x)": True}, kernels=MENDED, untouched=True,
         pages=FILE),
    Spec("a hugetlb page has none", "A: guard-install x; A: guard-install y",
         never=(("guard-install", "p=A v=y"),), kernels=HAVE, untouched=True, pages=("page x", "page y hugetlb")),
    Spec("where a PMD was is a page table of guards", "A: guard-install x",
         {"page_table(A, x)": True, "pte_guard(A, x.0)": True, "pte_guard(A, x.1)": True, "pte_present(A, x.0)": False},
         ("guard-install-block",), kernels=HAVE, untouched=True, pages=HUGE),
    Spec("a guard needs a page table, where a huge page might have come", "A: dontneed x; A: guard-install x.1",
         {"page_table(A, x)": True, "pte_guard(A, x.1)": True, "pte_guard(A, x.0)": False}, kernels=HAVE, pages=HUGE),
    Spec("what userfaultfd protects of a file is zapped, and its marker is in the way",
         "A: uffd-wp x; A: guard-install x",
         {"pte_guard(A, x)": False, "pte_present(A, x)": False, "uffd_marker(A, x)": True},
         ("file-read", "cow-fault", "store", "uffd-wp", "guard-zap", "guard-install-again"), kernels=HAVE,
         pages=("page x file uffd",)),
)

MET = (
    Spec("MADV_DONTNEED and MADV_FREE leave it", "A: guard-install x; A: dontneed x; A: madv-free x",
         {"pte_guard(A, x)": True}, kernels=HAVE, pages=X),
    Spec("... and the page table that it is in", "A: dontneed x; A: guard-install x.0; A: dontneed x",
         {"page_table(A, x)": True, "pte_guard(A, x.0)": True}, kernels=HAVE, pages=HUGE),
    Spec("it goes with its VMA, and another one has none", "A: guard-install x; A: mmap x",
         {"pte_guard(A, x)": False, "vma(A, x)": True}, kernels=HAVE, pages=X),
    Spec("... by munmap", "A: guard-install x; A: munmap x", {"pte_guard(A, x)": False, "vma(A, x)": False},
         kernels=HAVE, pages=X),
    Spec("... and by exit", "A: guard-install x; A: fork C; C: exit",
         {"pte_guard(A, x)": True, "pte_guard(C, x)": False}, kernels=HAVE, pages=X),
    Spec("mremap moves it and makes it soft-dirty", "A: clear-soft-dirty; A: guard-install x; A: mremap x y dontunmap",
         {"pte_guard(A, x)": False, "pte_guard(A, y)": True, "pte_soft_dirty(A, y)": True, "vma(A, x)": True},
         kernels=HAVE, pages=XY),
    Spec("... until the next clear_refs", "A: guard-install x; A: mremap x y; A: clear-soft-dirty",
         {"pte_guard(A, y)": True, "pte_soft_dirty(A, y)": False}, kernels=HAVE, pages=XY),
    Spec("... and clears what PAGEMAP_SCAN said of it", "A: guard-install x; A: pagemap-scan x; A: mremap x y",
         {"pte_guard(A, y)": True, "pte_uffd_wp(A, y)": False}, kernels=HAVE, untouched=True,
         pages=("page x uffd async", "page y")),
    Spec("... but where nobody is registered any more",
         "A: guard-install x; A: pagemap-scan x; A: uffd-unregister x; A: mremap x y",
         {"pte_guard(A, y)": True, "pte_uffd_wp(A, y)": True}, kernels=HAVE, untouched=True,
         pages=("page x uffd async", "page y")),
    Spec("a child's guard has no bits", "A: guard-install x; A: pagemap-scan x; A: mremap y x; A: guard-install x; "
         "A: fork C event", {"pte_guard(C, x)": True, "pte_uffd_wp(C, x)": False, "pte_soft_dirty(C, x)": False},
         kernels=HAVE, untouched=True, pages=("page x uffd async", "page y uffd async")),
    Spec("... be it moved or scanned before", "A: guard-install x; A: pagemap-scan x; A: fork C event",
         {"pte_uffd_wp(A, x)": True, "pte_guard(C, x)": True, "pte_uffd_wp(C, x)": False}, kernels=HAVE, untouched=True,
         pages=ASYNC),
    Spec("... and is not soft-dirty", "A: guard-install x; A: mremap x y; A: fork C",
         {"pte_soft_dirty(A, y)": True, "pte_guard(C, y)": True, "pte_soft_dirty(C, y)": False}, kernels=HAVE,
         pages=XY),
    Spec("userfaultfd neither protects nor un-protects it",
         "A: guard-install x; A: uffd-wp x; A: guard-install y; A: pagemap-scan y; A: uffd-unwp y",
         {"pte_uffd_wp(A, x)": False, "pte_uffd_wp(A, y)": True}, kernels=HAVE, untouched=True,
         pages=("page x uffd async", "page y uffd async")),
    Spec("... and unregistering leaves what it has", "A: guard-install x; A: pagemap-scan x; A: uffd-unregister x",
         {"pte_guard(A, x)": True, "pte_uffd_wp(A, x)": True}, kernels=HAVE, untouched=True, pages=ASYNC),
    Spec("UFFDIO_COPY maps a page there up to 6.18", "A: uffd-register x missing; A: guard-install x; A: uffd-copy x 7",
         {"pte_guard(A, x)": False, "pte_present(A, x)": True}, kernels=FILLS, pages=X),
    Spec("... then it is refused", "A: uffd-register x missing; A: guard-install x; A: uffd-copy x 7",
         {"pte_guard(A, x)": True, "pte_present(A, x)": False}, kernels=MENDED, pages=X),
    Spec("UFFDIO_CONTINUE likewise", "A: guard-install x; A: uffd-continue x",
         {"pte_guard(A, x)": False, "pte_present(A, x)": True}, kernels=FILLS, untouched=True, pages=FILE),
    Spec("... is refused then, too", "A: guard-install x; A: uffd-continue x", {"pte_guard(A, x)": True},
         kernels=MENDED, untouched=True, pages=FILE),
    Spec("UFFDIO_ZEROPAGE is refused", "A: uffd-register x missing; A: guard-install x; A: uffd-zeropage x",
         {"pte_guard(A, x)": True}, never=(("uffd-zeropage", "p=A v=x"),), kernels=HAVE, untouched=True, pages=X),
    Spec("no fault maps a page there", "A: guard-install x",
         never=(("anon-fault", "p=A v=x new=Q"), ("map-backing", "p=A v=x"), ("load", "p=A v=x")), kernels=HAVE,
         pages=X),
    Spec("... nor a forced write", "A: write x 1; A: force-write x 2; A: guard-install x",
         never=(("force-anon-fault", "p=A v=x new=Q"),), kernels=HAVE, pages=X),
    Spec("... nor is userfaultfd asked first", "A: uffd-register x missing; A: guard-install x",
         never=(("userfault-missing", "p=A v=x"),), kernels=HAVE, pages=X),
    Spec("no huge page comes there", "A: dontneed x; A: write x.0 1; A: guard-install x.1; *: collapse x",
         {"pte_guard(A, x.1)": True, "pte_huge(A, x.0)": False}, kernels=HAVE, pages=HUGE),
)

GUARD_SPECS = (*INSTALLED, *MET)
