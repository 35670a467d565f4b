"""Specifications of the rules of model/userfaultfd.py, in the form of rule_specs.py.

Most of KINDS, UNREGISTERED, NOWHERE, BLOCKS and EARLY were written from the rules and from memory when mutations went
unnoticed, and then asked of the model: they guard what it says, and are no evidence of what Linux does.
"""

from __future__ import annotations

from rule_specs import EVERYWHERE, OLD, Spec

TWO = ("page x uffd", "page y uffd")
MOVES = ("v6.12", "v6.15", "v6.18", "v7.2")
MOVED = "A: uffd-move x y"
KEEPS = ("v5.7", "v5.9", "v5.18", "v5.19")
"""Unregistering leaves uffd-wp where it is."""
CLEARS = ("v6.0", "v6.2", "v6.12", "v7.2")

REGISTERING = (
    Spec("registering for missing pages alone ends write-protection, and PTEs stay as they are",
         "A: uffd-wp x; A: uffd-register x missing",
         {"vma_missing(A, x)": True, "vma_uffd(A, x)": False, "vma_unwatched(A, x)": True, "pte_uffd_wp(A, x)": True,
          "pte_write(A, x)": False, "uffd_armed(A, x)": False}, kernels=(*OLD, "v6.12", "v7.2")),
    Spec("... which 7.3 refuses", "A: uffd-wp x; A: uffd-register x missing",
         {"vma_missing(A, x)": False, "vma_uffd(A, x)": True, "uffd_armed(A, x)": True},
         ("anon-fault", "store", "uffd-wp", "uffd-register-missing-refused"), kernels=("v7.3-rc7",)),
    Spec("registering for more keeps what is protected", "A: uffd-wp x; A: uffd-register x missing wp",
         {"vma_missing(A, x)": True, "vma_uffd(A, x)": True, "vma_unwatched(A, x)": False, "uffd_armed(A, x)": True},
         kernels=EVERYWHERE),
    Spec("... for less than there is changes nothing", "A: uffd-register x missing wp; A: uffd-register x wp",
         {"vma_missing(A, x)": True, "vma_uffd(A, x)": True}, kernels=EVERYWHERE),
    Spec("... again for write-protection is to be asked of userfaultfd again",
         "A: uffd-unregister x; A: uffd-register x wp", {"vma_uffd(A, x)": True, "vma_unwatched(A, x)": False},
         kernels=EVERYWHERE),
    Spec("unregistering ends both", "A: uffd-register x missing wp; A: uffd-unregister x",
         {"vma_missing(A, x)": False, "vma_uffd(A, x)": False}, kernels=EVERYWHERE),
    Spec("... and up to 5.19 leaves uffd-wp, which means nothing", "A: uffd-wp x; A: uffd-unregister x",
         {"pte_uffd_wp(A, x)": True, "uffd_armed(A, x)": False, "vma_unwatched(A, x)": True},
         never=(("userfault-wait", "p=A v=x"),), kernels=KEEPS),
    Spec("what is zapped where nothing watches any more leaves no marker, protected as it was",
         "A: write x 1; A: uffd-wp x; A: uffd-register x missing; A: dontneed x; A: read x",
         {"uffd_marker(A, x)": False, "pte_present(A, x)": True, "pte_uffd_wp(A, x)": False},
         kernels=("v5.19", "v6.12", "v7.2"), untouched=True, pages=("page x file 7 uffd",)),
    Spec("... not of what was never registered", "A: uffd-unregister x", {"vma_unwatched(A, x)": False},
         kernels=KEEPS, pages=("page x",)),
    Spec("... from 6.0 clears it", "A: uffd-wp x; A: uffd-unregister x",
         {"pte_uffd_wp(A, x)": False, "uffd_armed(A, x)": False, "vma_unwatched(A, x)": False}, kernels=CLEARS),
    Spec("... with the write bit, up to 6.2", "A: uffd-unregister x", {"pte_write(A, x)": False},
         kernels=("v6.0", "v6.2")),
    Spec("... which comes back from 6.3 on", "A: uffd-wp x; A: uffd-unregister x", {"pte_write(A, x)": True},
         kernels=("v6.12", "v7.2")),
    Spec("... only where it was registered for write-protection",
         "A: write y 2; A: uffd-register y missing; A: uffd-unregister y", {"pte_write(A, y)": True},
         kernels=("v6.0", "v6.2"), pages=("page x", "page y")),
    Spec("what is left of uffd-wp is written over by a write fault, and stays", "A: uffd-wp x; A: uffd-unregister x; "
         "A: write x 2", {"pte_write(A, x)": True, "pte_uffd_wp(A, x)": True}, kernels=KEEPS),
    Spec("a child is not registered", "A: uffd-register x missing wp; A: fork C",
         {"vma_missing(C, x)": False, "vma_uffd(C, x)": False, "vma_unwatched(C, x)": False}, kernels=EVERYWHERE),
    Spec("what mremap brings is not registered", "A: uffd-register x missing wp; A: uffd-register y missing wp; "
         "A: mremap x y", {"vma_missing(A, y)": False, "vma_uffd(A, y)": False}, kernels=EVERYWHERE, pages=TWO),
    Spec("a part of a THP is registered by itself", "A: uffd-register x.0 missing",
         {"vma_missing(A, x.0)": True, "vma_missing(A, x.1)": False, "pte_huge(A, x.1)": False},
         ("split-pmd", "uffd-register-missing"), kernels=EVERYWHERE, untouched=True, pages=("page x huge 2",)),
    Spec("... not if it is so already", "A: uffd-register x missing; A: uffd-register x.0 missing",
         {"pte_huge(A, x.0)": True}, ("uffd-register-missing-range", "uffd-register-missing-nothing"),
         kernels=EVERYWHERE, untouched=True, pages=("page x huge 2",)),
    Spec("two VMAs that differ by it are no block that collapses", "*: split x; A: uffd-register x.0 missing; "
         "*: collapse x", {"pte_huge(A, x.0)": False}, kernels=EVERYWHERE, untouched=True, pages=("page x huge 2",)),
)

MISSING = (
    Spec("nothing is mapped by a fault where pages are missing", "A: dontneed x; A: uffd-register x missing; A: read y",
         {"pte_present(A, x)": False},
         never=(("anon-fault", "p=A v=x new=S"), ("map-backing", "p=A v=x"), ("load", "p=A v=x")),
         kernels=EVERYWHERE, pages=("page x", "page y zero")),
    Spec("... nor by a forced write", "A: dontneed x; A: uffd-register x missing; A: mprotect x ro; A: force-write y 1",
         {"pte_present(A, x)": False}, never=(("force-anon-fault", "p=A v=x new=S"),), kernels=EVERYWHERE,
         pages=("page x", "page y")),
    Spec("... nor a THP", "A: dontneed x; A: uffd-register x missing; A: read y",
         {"pte_present(A, x.0)": False},
         never=(("map-huge-zero", "p=A v=x.0"), ("huge-fault", "p=A v=x.0 new=S,T,S into=0")), kernels=EVERYWHERE,
         untouched=True, pages=("page x huge 2", "page y zero")),
    Spec("what is mapped or swapped out is not missing", "*: pageout x; A: uffd-register x missing wp; A: write y 1; "
         "A: uffd-register y missing", {"pte_swap(A, x)": True},
         never=(("userfault-missing", "p=A v=x"), ("userfault-missing", "p=A v=y")), kernels=EVERYWHERE,
         pages=("page x uffd", "page y")),
    Spec("UFFDIO_COPY maps a page of one's own, dirty and soft-dirty, and brings a page table and an anon_vma",
         "A: dontneed x; A: uffd-copy x 3",
         {"pte_write(A, x)": True, "pte_dirty(A, x)": True, "pte_soft_dirty(A, x)": True, "pte_uffd_wp(A, x)": False,
          "uffd_armed(A, x)": False}, kernels=EVERYWHERE),
    Spec("... exclusive from 5.19", "A: dontneed x; A: uffd-copy x 3", {"exclusive(P)": True}, kernels=MOVES),
    Spec("... of a file, over a marker", "A: uffd-wp x; A: uffd-copy x 3",
         {"vma_anon(A, x)": True, "uffd_marker(A, x)": False, "pte_uffd_wp(A, x)": False}, kernels=("v5.19", "v7.2"),
         untouched=True, pages=("page x file 7 uffd",)),
    Spec("... read-only in a read-only VMA", "A: dontneed x; A: mprotect x ro; A: uffd-copy x 3",
         {"pte_write(A, x)": False, "pte_dirty(A, x)": True}, kernels=EVERYWHERE),
    Spec("... by a PTE where a THP might be", "A: dontneed x; A: uffd-copy x.0 3",
         {"page_table(A, x)": True, "pte_huge(A, x.0)": False}, kernels=EVERYWHERE, untouched=True,
         pages=("page x huge 2 uffd",)),
    Spec("with MODE_WP it is protected", "A: dontneed x; A: uffd-copy x 3 wp",
         {"pte_write(A, x)": False, "pte_uffd_wp(A, x)": True, "uffd_armed(A, x)": True}, kernels=EVERYWHERE),
    Spec("... up to 5.18 not in a read-only VMA", "A: dontneed x; A: mprotect x ro; A: uffd-copy x 3 wp",
         {"pte_uffd_wp(A, x)": False, "uffd_armed(A, x)": True}, kernels=OLD),
    Spec("... and brings an anon_vma", "A: uffd-copy x 3 wp", {"vma_anon(A, x)": True, "uffd_armed(A, x)": True},
         kernels=EVERYWHERE, untouched=True, pages=("page x uffd", "page y zero")),
    Spec("... and a page table", "A: dontneed x; A: uffd-copy x.0 3 wp",
         {"page_table(A, x)": True, "pte_huge(A, x.0)": False},
         kernels=EVERYWHERE, untouched=True, pages=("page x huge 2 uffd",)),
    Spec("... and is not refused where nothing is", "A: uffd-copy y 3", {"pte_present(A, x)": False},
         never=(("uffd-copy-refused", "p=A v=x"), ("uffd-copy-wp-refused", "p=A v=x")), kernels=EVERYWHERE,
         untouched=True, pages=TWO),
    Spec("... not over what is there, or swapped out", "*: pageout x; A: write y 1; A: uffd-register y wp",
         {"pte_swap(A, x)": True},
         never=tuple((copy, f"p=A v={v} n=1 new=S") for copy in ("uffd-copy", "uffd-copy-wp") for v in "xy"),
         kernels=EVERYWHERE, pages=TWO),
    Spec("... nothing without a VMA for that", "A: uffd-register x missing; A: dontneed x; A: uffd-copy x 3",
         {"vma_uffd(A, x)": False, "pte_present(A, x)": True},
         never=(("uffd-copy-wp", "p=A v=y n=3 new=S"), ("uffd-copy", "p=A v=z n=3 new=S")), kernels=OLD,
         pages=("page x", "page y", "page z")),
    Spec("UFFDIO_ZEROPAGE is for registered anonymous memory where nothing is", "*: pageout x; A: uffd-zeropage w",
         {"pte_swap(A, x)": True, "pte_present(A, w)": True},
         never=tuple(("uffd-zeropage", f"p=A v={v}") for v in "xyzw"), kernels=("v5.19", "v6.12", "v7.2"),
         pages=("page x uffd", "page y", "page z file 5 uffd", "page w uffd")),
    Spec("... of which there is an anon_vma then", "A: uffd-zeropage x", {"vma_anon(A, x)": True}, kernels=EVERYWHERE,
         untouched=True),
    Spec("... and a page table where a THP might be", "A: dontneed x; A: uffd-zeropage x.0",
         {"page_table(A, x)": True, "pte_huge(A, x.0)": False}, kernels=EVERYWHERE, untouched=True,
         pages=("page x huge 2 uffd",)),
    Spec("UFFDIO_ZEROPAGE maps the zero page read-only, clean, and brings an anon_vma", "A: dontneed x; "
         "A: uffd-zeropage x", {"nonanon(P)": True, "pte_write(A, x)": False, "pte_dirty(A, x)": False,
                                "pte_soft_dirty(A, x)": False, "vma_anon(A, x)": True}, kernels=EVERYWHERE),
)

MOVING = (
    Spec("a page that moves takes its contents, is writable and soft-dirty, and no longer where it was",
         f"A: clear-soft-dirty; A: uffd-wp x; {MOVED}",
         {"pte_present(A, x)": False, "pte_frame(A, y)": "Q", "pte_write(A, y)": True, "pte_soft_dirty(A, y)": True,
          "pte_uffd_wp(A, y)": False, "uffd_armed(A, y)": False, "exclusive(Q)": True}, kernels=MOVES, pages=TWO),
    Spec("... as dirty as it was", f"*: pageout x; A: read x; {MOVED}", {"pte_dirty(A, y)": False},
         kernels=("v6.12", "v6.18", "v7.2"), pages=TWO),
    Spec("... up to 6.15 dirty", f"*: pageout x; A: read x; {MOVED}", {"pte_dirty(A, y)": True}, kernels=("v6.15",),
         pages=TWO),
    Spec("... and FOLL_GET references follow it", f"A: r = get x write; {MOVED}",
         {"pin_page(r)": "y", "pin_attached(r)": True, "pte_frame(A, y)": "Q"}, kernels=MOVES, pages=TWO),
    Spec("... those of others not", f"A: r = get x write; A: write x 2; A: s = get z; {MOVED}", {"pin_page(s)": "z"},
         kernels=MOVES, pages=(*TWO, "page z")),
    Spec("no page moves that is pinned, shared, or the target of which is not registered or not empty",
         "A: r = pin x; A: write z 1; A: fork C; A: write u 1; A: uffd-move u y", {"pte_frame(A, x)": "Q"},
         never=(("uffd-move", "p=A v=x w=v"), ("uffd-move", "p=A v=z w=v"), ("uffd-move", "p=A v=u w=w"),
                ("uffd-move", "p=A v=y w=z"), ("uffd-move", "p=A v=y w=w")), kernels=MOVES,
         pages=(*TWO, "page z uffd", "page u", "page v uffd", "page w")),
    Spec("... nor between read-only VMAs", "A: uffd-move x y; A: mprotect y ro; A: mprotect z ro; A: write u 1",
         {"pte_frame(A, y)": "Q"}, never=(("uffd-move", "p=A v=y w=z"), ("uffd-move", "p=A v=u w=z")), kernels=MOVES,
         pages=(*TWO, "page z uffd", "page u")),
    Spec("a swap entry moves as it is", f"A: uffd-wp x; *: pageout x; {MOVED}",
         {"pte_swap(A, x)": False, "pte_swap(A, y)": True, "pte_slot(A, y)": "s0", "pte_swap_exclusive(A, y)": True,
          "pte_uffd_wp(A, y)": True, "uffd_armed(A, y)": False}, kernels=MOVES, pages=TWO),
    Spec("... from 6.16 soft-dirty", f"*: pageout x; A: clear-soft-dirty; {MOVED}", {"pte_soft_dirty(A, y)": True},
         kernels=("v6.12", "v6.18", "v7.2"), pages=TWO),
    Spec("... before as it was", f"*: pageout x; A: clear-soft-dirty; {MOVED}", {"pte_soft_dirty(A, y)": False},
         kernels=("v6.15",), pages=TWO),
    Spec("... with the page of the swap cache", f"*: extra-ref x; *: pageout x; {MOVED}",
         {"cached(s0)": True, "misplaced(Q)": False, "pte_slot(A, y)": "s0"}, kernels=MOVES, pages=TWO),
    Spec("... up to 6.13 without it", f"*: extra-ref x; *: pageout x; {MOVED}",
         {"cached(s0)": True, "misplaced(Q)": True, "pte_slot(A, y)": "s0"}, kernels=("v6.8", "v6.12.0"), pages=TWO),
    Spec("... which reclaim does not find then, nor migration",
         f"*: extra-ref x; *: pageout x; {MOVED}; A: read y; *: drop-extra y; *: migrate y",
         {"pte_frame(A, y)": "Q", "misplaced(Q)": True},
         never=(("swap-out-cached", "f=Q s=s0"), ("migrate", "f=Q new=U")), kernels=("v6.8", "v6.12.0"), pages=TWO),
    Spec("... until it moves once more", f"*: extra-ref x; *: pageout x; {MOVED}; A: read y; A: uffd-move y x",
         {"pte_frame(A, x)": "Q", "misplaced(Q)": False}, kernels=("v6.8", "v6.12.0"), pages=TWO),
    Spec("no swap entry moves that is shared", "A: fork C; *: pageout x; A: write z 1; A: uffd-move z y",
         {"pte_swap(A, x)": True}, never=(("uffd-move-swapped", "p=A v=x w=v"),), kernels=MOVES,
         pages=(*TWO, "page z", "page v uffd")),
    Spec("a THP is split before its parts move, or are refused", "A: write x 1; A: write u 1; A: uffd-move u y",
         {"pte_huge(A, x.0)": True}, never=(("uffd-move-refused", "p=A v=x.0 w=z"), ("uffd-move", "p=A v=x.0 w=z")),
         kernels=MOVES, untouched=True,
         pages=("page x huge 2", "page u uffd", "page y uffd", "page z uffd")),
    Spec("... be it mapped by PTEs", "A: write x 1; A: mprotect x.0 ro; A: write u 1; A: uffd-move u y",
         {"pte_huge(A, x.1)": False, "pte_present(A, x.1)": True},
         never=(("uffd-move-refused", "p=A v=x.1 w=z"), ("uffd-move", "p=A v=x.1 w=z")),
         kernels=MOVES, untouched=True,
         pages=("page x huge 2", "page u uffd", "page y uffd", "page z uffd")),
    Spec("the zero page moves, read-only", "A: uffd-move x y",
         {"pte_present(A, x)": False, "nonanon(P)": True, "pte_frame(A, y)": "P", "pte_write(A, y)": False},
         kernels=MOVES, untouched=True, pages=("page x zero", "page y uffd")),
)

KINDS = (
    ("uffd-move", "A: write y 1", "page y uffd"), ("uffd-move-swapped", "A: write y 1; *: pageout y", "page y uffd"),
    ("uffd-move-zero", "A: read y", "page y zero uffd"),
)
"""What moves, how it comes to be at y, and y."""
WITHOUT = ("page w", "page t uffd", "page s uffd", "page r uffd", "page e uffd", "page m uffd", "page f file 5 uffd")
TARGETS = tuple(
    Spec(f"{rule} has a target that is registered, empty, anonymous, writable and as executable",
         f"A: write t 1; A: write s 1; *: pageout s; {brought}; A: mprotect r ro; A: mprotect e rwx; A: munmap m; "
         "A: uffd-move u v",
         {"pte_present(A, t)": True, "pte_swap(A, s)": True, "vma_write(A, r)": False, "vma_exec(A, e)": True},
         never=tuple((rule, f"p=A v=y w={target}") for target in "wtsremf"), kernels=MOVES,
         untouched=True, pages=(source, *WITHOUT, "page u", "page v uffd"))
    for rule, brought, source in KINDS
)
ORIGINS = tuple(
    Spec(f"{rule} does not take what lies where {where}", f"{brought}; A: uffd-move u v; {then}",
         {"pte_present(A, w)": False}, never=((rule, "p=A v=y w=w"),), kernels=MOVES,
         untouched=True, pages=(source, "page w uffd", "page u", "page v uffd"))
    for rule, brought, source in KINDS for where, then in (
        ("the VMA is read-only", "A: mprotect y ro"), ("the VMA is executable", "A: mprotect y rwx"),
    )
)
ARRIVALS = tuple(
    Spec(f"{rule} is not refused", f"{brought}; A: uffd-move u v", {"pte_present(A, w)": False},
         never=(("uffd-move-refused", "p=A v=y w=w"),), kernels=MOVES, untouched=True,
         pages=(source, "page w uffd", "page u", "page v uffd"))
    for rule, brought, source in KINDS
) + tuple(
    spec for rule, brought, source in KINDS for spec in (
        Spec(f"what {rule} brings gets an anon_vma", f"{brought}; A: uffd-move y w",
             {"vma_anon(A, w)": True, "pte_present(A, y)": False, "pte_swap(A, y)": False}, kernels=MOVES,
             untouched=True, pages=(source, "page w uffd", "page u zero")),
        Spec(f"what {rule} brings gets a page table", f"A: dontneed w; {brought}; A: uffd-move y w.0",
             {"page_table(A, w)": True, "pte_huge(A, w.0)": False, "pte_present(A, y)": False}, kernels=MOVES,
             untouched=True, pages=(source, "page w huge 2 uffd")),
    )
)
UNREGISTERED = (
    Spec("a page of its own in a file mapping does not move",
         "A: write y 1; A: write z 1; *: pageout z; A: uffd-move u v",
         {"pte_swap(A, z)": True, "pte_present(A, y)": True},
         never=(("uffd-move", "p=A v=y w=w"), ("uffd-move-swapped", "p=A v=z w=w")), kernels=MOVES, untouched=True,
         pages=("page y file 5 uffd", "page z file 6 uffd", "page w uffd", "page u", "page v uffd")),
    Spec("references to a page that is swapped out follow its entry",
         "A: r = get y write; *: pageout y; A: uffd-move y w",
         {"pin_page(r)": "w", "pte_swap(A, w)": True, "pin_attached(r)": True}, kernels=("v6.15", "v6.18", "v7.2"),
         untouched=True, pages=("page y uffd", "page w uffd")),
    Spec("references to the zero page follow it", "A: r = get y; A: uffd-move y w",
         {"pin_page(r)": "w", "pte_present(A, w)": True}, kernels=MOVES, untouched=True,
         pages=("page y zero uffd", "page w uffd")),
    Spec("a page of the page cache does not move as the zero page does", "A: read y; A: uffd-move u v",
         {"pte_present(A, y)": True}, never=(("uffd-move-zero", "p=A v=y w=w"), ("uffd-move", "p=A v=y w=w")),
         kernels=MOVES, untouched=True,
         pages=("page y file 5 uffd", "page w uffd", "page u", "page v uffd", "page z zero")),
    Spec("... nor the huge zero page before it is split", "A: dontneed y; A: read y; A: uffd-move u v",
         {"pte_huge(A, y.0)": True, "nonanon(P)": True}, never=(("uffd-move-zero", "p=A v=y.0 w=w"),),
         kernels=MOVES, untouched=True,
         pages=("page y huge 2", "page w uffd", "page u", "page v uffd", "page z zero")),
    Spec("a THP that is not registered any more is writable, from 6.3 on",
         "A: write x 1; A: uffd-wp x; A: uffd-unregister x", {"pte_write(A, x.1)": True, "pte_huge(A, x.1)": True},
         kernels=("v6.12", "v7.2"), untouched=True, pages=("page x huge 2 uffd",)),
    Spec("... and before loses its write bit", "A: write x 1; A: uffd-unregister x", {"pte_write(A, x.1)": False},
         kernels=("v6.0", "v6.2"), untouched=True, pages=("page x huge 2 uffd",)),
)

FORKING = (
    Spec("a child of which the monitor is told is registered as its parent is, and as protected",
         "A: uffd-register x missing wp; A: uffd-wp x; A: fork C event",
         {"vma_uffd(C, x)": True, "vma_missing(C, x)": True, "pte_uffd_wp(C, x)": True, "uffd_armed(C, x)": True,
          "pte_write(C, x)": False, "pte_frame(C, x)": "P"}, kernels=EVERYWHERE),
    Spec("... where it is registered for that", "A: uffd-wp x; A: uffd-register x missing; A: fork C event",
         {"vma_missing(C, x)": True, "vma_uffd(C, x)": False, "pte_uffd_wp(C, x)": False,
          "vma_unwatched(C, x)": False}, kernels=EVERYWHERE),
    Spec("... not the copy that it gets of a pinned page, up to 5.13", "A: r = pin x write; A: uffd-wp x; "
         "A: fork C event", {"pte_write(C, x)": True, "pte_uffd_wp(C, x)": False, "uffd_armed(C, x)": True},
         kernels=("v5.9", "v5.12")),
    Spec("... then that, too", "A: r = pin x write; A: uffd-wp x; A: fork C event",
         {"pte_write(C, x)": False, "pte_uffd_wp(C, x)": True, "pte_frame(A, x)": "P"},
         kernels=("v5.14", "v5.18", "v5.19", "v6.15", "debian-5.10")),
    Spec("... which is writable if it is not protected", "A: r = pin x write; A: fork C event",
         {"pte_write(C, x)": True, "pte_uffd_wp(C, x)": False}, kernels=("v5.14", "v5.19")),
    Spec("from 5.19 it keeps what protects the zero page, and markers", "A: uffd-wp x; A: uffd-wp y; A: fork C event",
         {"pte_present(C, x)": True, "pte_uffd_wp(C, x)": True, "uffd_marker(C, y)": True}, kernels=MOVES,
         untouched=True, pages=("page x zero uffd", "page y file 7 uffd")),
    Spec("... before, none without an anon_vma", "A: uffd-wp x; A: fork C event", {"pte_present(C, x)": False},
         kernels=OLD, untouched=True, pages=("page x zero uffd",)),
)

MODES = ("register-missing", "register-wp", "register-missing-wp")
NOWHERE = (
    Spec("registering for missing pages alone is refused from 7.3 on what is registered for write-protection",
         "A: uffd-register z missing wp", {"vma_uffd(A, x)": True},
         never=(("uffd-register-missing", "p=A v=x"), ("uffd-register-missing-range", "p=A v=y.0")),
         kernels=("v7.3-rc7",), untouched=True, pages=("page x uffd", "page y huge 2 uffd", "page z")),
    Spec("nothing is registered where nothing is mapped", "A: munmap x; A: uffd-register y missing wp",
         {"vma(A, x)": False}, never=(
             *((f"uffd-{what}", "p=A v=x") for what in (*MODES, "unregister", "zeropage")),
             ("uffd-copy", "p=A v=x n=1 new=S"), ("uffd-copy-wp", "p=A v=x n=1 new=S"), ("userfault-missing", "p=A v=x")
         ), kernels=EVERYWHERE, pages=("page x uffd", "page y", "page z zero")),
    Spec("... and is no error where something is", "A: uffd-register y missing wp", {"vma(A, x)": True},
         never=tuple((f"uffd-{what}-refused", "p=A v=x") for what in (
             "register-missing", "register-missing-wp", "unregister"
         )), kernels=("v5.9", "v5.18", "v5.19", "v7.2"), pages=("page x", "page y")),
)

BLOCKS = (
    Spec("unregistering takes markers away, from 6.0 on", "A: uffd-wp x; A: uffd-unregister x",
         {"uffd_marker(A, x)": False, "vma_uffd(A, x)": False}, kernels=CLEARS, untouched=True,
         pages=("page x file 7 uffd",)),
    Spec("registering again finds what was left of uffd-wp", "A: uffd-wp x; A: uffd-unregister x; "
         "A: uffd-register x missing wp", {"vma_unwatched(A, x)": False, "pte_uffd_wp(A, x)": True}, kernels=KEEPS),
    Spec("... for a whole block", "A: write x 1; A: uffd-wp x; A: uffd-unregister x; A: uffd-register x missing wp",
         {"vma_unwatched(A, x.1)": False, "pte_uffd_wp(A, x.1)": True}, kernels=KEEPS, untouched=True,
         pages=("page x huge 2 uffd",)),
    Spec("... for write-protection alone", "A: write x 1; A: uffd-wp x; A: uffd-unregister x; A: uffd-register x wp",
         {"vma_unwatched(A, x.1)": False, "pte_uffd_wp(A, x.1)": True}, kernels=KEEPS, untouched=True,
         pages=("page x huge 2 uffd",)),
    Spec("registering for write-protection alone ends the other", "A: uffd-register x missing; A: uffd-register x wp",
         {"vma_missing(A, x)": False, "vma_uffd(A, x)": True}, kernels=EVERYWHERE, pages=("page x",)),
    Spec("... which is not for files up to 5.18", "A: uffd-register y missing", {"file(x)": True},
         never=(("uffd-register-wp", "p=A v=x"), ("uffd-register-missing-wp", "p=A v=x")), kernels=OLD, untouched=True,
         pages=("page x file 7", "page y")),
    Spec("... and is from then on", "A: uffd-register y missing", {"file(x)": True},
         never=(("uffd-register-wp-refused", "p=A v=x"), ("uffd-register-missing-wp-refused", "p=A v=x")),
         kernels=("v5.19", "v6.12", "v7.2"), untouched=True, pages=("page x file 7", "page y")),
    Spec("no part of a THP is refused what the whole is granted", "A: uffd-register y missing wp",
         {"vma(A, x.1)": True},
         never=tuple((f"uffd-{what}-range-refused", "p=A v=x.0") for what in (*MODES, "unregister")),
         kernels=EVERYWHERE, untouched=True, pages=("page x huge 2", "page y")),
    Spec("the PMD is split before a part of what it maps is registered", "A: write x 1; A: uffd-register y missing wp",
         {"pte_huge(A, x.0)": True}, never=tuple((f"uffd-{what}", "p=A v=x.0") for what in (*MODES, "unregister")),
         kernels=EVERYWHERE, untouched=True, pages=("page x huge 2", "page y")),
    Spec("all that it maps is registered for missing pages alone, and no longer protected",
         "A: write x 1; A: uffd-wp x; A: uffd-register x missing",
         {"vma_missing(A, x.1)": True, "vma_uffd(A, x.1)": False, "vma_unwatched(A, x.1)": True,
          "uffd_armed(A, x.1)": False, "pte_uffd_wp(A, x.1)": True, "pte_huge(A, x.1)": True},
         kernels=("v5.9", "v5.18", "v6.12", "v7.2"), untouched=True, pages=("page x huge 2 uffd",)),
    Spec("... for both, and as protected as it was", "A: write x 1; A: uffd-wp x; A: uffd-register x missing wp",
         {"vma_missing(A, x.1)": True, "vma_uffd(A, x.1)": True, "vma_unwatched(A, x.1)": False,
          "uffd_armed(A, x.1)": True, "pte_huge(A, x.1)": True},
         kernels=EVERYWHERE, untouched=True, pages=("page x huge 2 uffd",)),
    Spec("... for write-protection alone, and no longer for missing pages",
         "A: write x 1; A: uffd-register x missing; A: uffd-register x wp",
         {"vma_missing(A, x.1)": False, "vma_uffd(A, x.1)": True, "vma_unwatched(A, x.1)": False,
          "uffd_armed(A, x.1)": False, "pte_huge(A, x.1)": True},
         kernels=EVERYWHERE, untouched=True, pages=("page x huge 2",)),
    Spec("... which protects nothing that was protected before", "A: write x 1; A: uffd-wp x; A: uffd-unregister x; "
         "A: uffd-register x wp", {"uffd_armed(A, x.1)": False, "vma_uffd(A, x.1)": True, "pte_huge(A, x.1)": True},
         kernels=("v6.0", "v6.12", "v7.2"), untouched=True, pages=("page x huge 2 uffd",)),
    Spec("... for nothing", "A: write x 1; A: uffd-register x missing wp; A: uffd-wp x; A: uffd-unregister x",
         {"vma_missing(A, x.1)": False, "vma_uffd(A, x.1)": False, "uffd_armed(A, x.1)": False,
          "pte_huge(A, x.1)": True}, kernels=EVERYWHERE, untouched=True, pages=("page x huge 2",)),
    Spec("... which leaves what nothing watches any more, up to 5.19",
         "A: write x 1; A: uffd-register x wp; A: uffd-wp x; A: uffd-unregister x",
         {"vma_unwatched(A, x.1)": True, "pte_uffd_wp(A, x.1)": True}, kernels=KEEPS, untouched=True,
         pages=("page x huge 2",)),
    Spec("... from 6.0 nothing", "A: write x 1; A: uffd-register x wp; A: uffd-wp x; A: uffd-unregister x",
         {"vma_unwatched(A, x.1)": False, "pte_uffd_wp(A, x.1)": False}, kernels=CLEARS, untouched=True,
         pages=("page x huge 2",)),
    Spec("what is said again of a small page is said by the same rule",
         "A: uffd-register x missing wp; A: uffd-register y wp; A: uffd-register z missing",
         {"vma_missing(A, z)": True}, never=tuple((f"uffd-{what}-nothing", f"p=A v={v}")
                                                 for what in MODES for v in "xyz"),
         kernels=EVERYWHERE, pages=("page x", "page y", "page z", "page u huge 2")),
    Spec("... and of a THP only what was said of it", "A: write u 1; A: uffd-register x missing",
         {"pte_huge(A, u.0)": True},
         never=tuple((f"uffd-{what}-nothing", "p=A v=u.0") for what in MODES), kernels=EVERYWHERE, untouched=True,
         pages=("page x uffd", "page u huge 2")),
)

EARLY = (
    Spec("the dead do not fork, under a monitor either", "A: fork C event; A: exit", {"alive(A)": False},
         never=(("fork-event", "p=A child=A"),), kernels=EVERYWHERE),
    Spec("an early copy takes a page that is free", "A: fork C event; C: exit; A: r = pin x write",
         {"pte_frame(A, x)": "P"}, never=(("fork-event", "p=A child=C copy=P"),), kernels=("v5.9", "v5.19", "v6.15")),
    Spec("... each copy one of its own", "A: write y 1; A: fork C event; C: exit; A: r = pin x write; "
         "A: s = pin y write",
         {"pte_frame(A, y)": "Q"}, never=(("fork-event", "p=A child=C copy=S,S"),),
         kernels=("v5.9", "v5.19", "v6.15"), pages=TWO),
    Spec("what is shared is write-protected in both", "A: fork C event",
         {"pte_write(A, x)": False, "pte_write(C, x)": False, "exclusive(P)": False, "pte_frame(C, x)": "P"},
         kernels=EVERYWHERE),
    Spec("a child has a page table where its parent has one", "*: split x; A: fork C event",
         {"page_table(C, x)": True, "pte_huge(C, x.0)": False}, kernels=EVERYWHERE, untouched=True,
         pages=("page x huge 2",)),
    Spec("... or gets copies of a pinned THP", "A: r = pin x.0 write; A: fork C event",
         {"page_table(C, x)": True, "page_table(A, x)": True, "pte_huge(A, x.1)": False},
         kernels=("v5.9", "v5.19", "v6.15"), untouched=True, pages=("page x huge 2",)),
    Spec("... the pages of which are dirty then", "A: write y 1; A: madv-free y; A: r = pin x.0 write; A: fork C event",
         {"page_dirty(Q)": True, "page_dirty(S)": True, "pte_frame(A, x.1)": "S", "page_dirty(P)": False},
         kernels=("v5.9", "v5.19", "v6.15"), untouched=True, pages=("page x huge 2", "page y")),
)

UFFD_SPECS = (
    *REGISTERING, *MISSING, *MOVING, *FORKING, *TARGETS, *ORIGINS, *ARRIVALS, *UNREGISTERED, *NOWHERE, *BLOCKS, *EARLY,
)
