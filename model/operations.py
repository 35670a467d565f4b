"""What a thread, a device or reclaim does, made of rules: one operation of a litmus test is one or more kernel steps.

An operation takes an enabled `goal` rule and is done; else an enabled `refusal` ends it with an error; else an enabled
`block` rule leaves its thread waiting; else it takes a rule that its access may raise on the way (a fault) and tries
again. Only rule names stand here: what they do is said in the files of this package, once. A rule that a system lacks
is passed over. Where a system has the sub-steps RULE.STAGE of a rule, they are taken one after the other, and to take
the rule is to have taken the last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from model.decisions import Decisions
from model.logic import Sort
from model.state import Frame, Page, Pin, Proc, Slot, Value

SWAP_IN_FAULTS = ("swap-cache-read", "swap-in-read", "swap-in-sync-read")
"""What brings in a swapped-out page, as a read does."""
SYNC_READS = ("swap-in-sync-read", "swap-in-sync-slow")
READ_FAULTS = (
    "file-read", "map-huge-zero", "map-backing", "swap-cache-read", "swap-in-read", *SYNC_READS, "hugetlb-fault",
)
WRITE_FAULTS = (
    "anon-fault", "huge-fault", "file-read", "cow-fault", "swap-cache-read", "swap-in-write", "swap-in-sync-write",
    "wp-reuse", "wp-copy", "huge-wp-reuse", "huge-wp-copy", "huge-zero-copy", "huge-wp-split",
    "hugetlb-fault", "hugetlb-reuse", "hugetlb-copy", "hugetlb-take-back", "uffd-async-clear", "uffd-async-split",
)
UNSHARE_FAULTS = (
    "unshare-copy", "unshare-reuse", "huge-unshare-reuse", "huge-zero-unshare", "huge-unshare-split",
    "hugetlb-unshare-copy", "hugetlb-unshare-reuse", "hugetlb-unshare-take-back",
)
"""Faults for a reader that must not share the page; get_user_pages raises them, a load never does."""
NO_PAGE = ("hugetlb-fault-refused",)
"""Refusals of an access for which the pool of hugetlb pages has none: SIGBUS, or -EFAULT of get_user_pages."""
NO_WRITE = (*NO_PAGE, "hugetlb-copy-refused")
NO_READ = (*NO_PAGE, "hugetlb-unshare-refused")
"""... of get_user_pages for reading, where that raises a fault of its own."""
FORCED_FAULTS = (
    "force-anon-fault", "force-huge-fault", "force-cow-fault", "force-read-again", "force-wp-reuse", "force-wp-copy",
    "force-huge-copy", "force-huge-zero", "force-huge-reuse", "force-huge-split", "force-swap-in", "swap-in-sync-read",
    "force-async-clear", "force-async-split",
)
"""Write faults of FOLL_FORCE in a read-only VMA."""

WHEN_TRYLOCK_FAILS = {"wp-reuse": "wp-copy-spurious"}
"""The rule that is taken instead, if the kernel has it and it is enabled, when an attempt at the page lock fails."""
GIVES_UP = frozenset({"retry", "undo-grab", "undo", "held"})
"""Sub-steps that end their rule without its last one."""
FAILS = frozenset({"put-back"})
"""Those that end its operation, too, with an error."""
ENDINGS = GIVES_UP | FAILS
TAILS = {"wp-copy-spurious": "wp-copy", "swap-out": "swap-out-cached"}
"""A rule with one sub-step of its own, and the rule whose later sub-steps follow it, or all if none has that name."""
TOLD_AS = {
    "mprotect-other": ("mprotect-rwx", "mprotect-rw"),
    "mprotect-other-range": ("mprotect-rwx-range", "mprotect-rw-range"),
}
"""A rule that no operation takes, and those that may tell what it does: one that sets VM_EXEC, one that clears it."""
DECLARED = {
    "mmap-file": "file", "mmap-hugetlb": "hugetlb", "madvise-hugepage": "huge", "backing-read": "",
    "mmap-soft-dirty": "", "memory-movable": "movable", "memory-cma": "cma",
    "uffd-api-unpopulated": "unpopulated", "uffd-api-async": "async",
}
"""Rules for which a litmus test has no operation but its start state, and the attribute that says so of their page."""


def stages(rules: Iterable[str]) -> dict[str, list[str]]:
    """Of the rules that are in sub-steps: RULE to the names RULE.STAGE in their order."""
    found: dict[str, list[str]] = {}
    for name in rules:
        if "." in name:
            found.setdefault(name.partition(".")[0], []).append(name)
    return found


def last_stage(names: Iterable[str]) -> str:
    """The name of the sub-step with which a rule is done; those that give it up are not meant."""
    return [name for name in names if name.partition(".")[2] not in ENDINGS][-1]


@dataclass(frozen=True)
class Operation:
    """One operation, by its word and its flags.

    word, flags   how a litmus test says it: `pin` with `write` and `longterm`
    arguments     rule parameters that the test names, in order: v, w pages; n a value; k a reference; child a process
    goal, refusal rule names
    perhaps       rules that may be taken for the goal, where enabled, whatever else could be done
    quick         the rule that is tried once before all else where the test says `fast`; empty if it cannot. Such an
                  operation prepares nothing
    nothing       rules by which it is done before anything is prepared, where one is enabled
    prepares      rules taken first where enabled, in order, each for every page that the test names and its frame
    refused_first it is refused, where it can be, before anything is prepared: VMAs are looked at before page tables
    then          rules taken after the goal, one after the other, each where it is enabled, on the goal's slot s or
                  reference k
    whole, whole_refusal
                  goal and refusal for a whole huge page, one step that names its first sub-page; where there are none
                  the operation is done on each sub-page in turn
    at_once       rules that do a whole huge page where they are enabled when the operation begins; else part by part
    at_once_refusal
                  ... and those that refuse it
    passes_over   done part by part, it goes on behind a part for which it is refused: madvise behind a hole
    raises        faults that come before those of its access, one after the other
    access        `load`, `store`, `read-gup`, `force`, `unmerge`, `collapse`, `move`, `guard`: which faults it raises,
                  or for what it waits; empty if none
    of_parts      those of these faults that it raises for a part of a huge page alone: what becomes of a whole one no
                  rule tells, and there is no answer
    on_block      it raises them on every page of the block
    beside        the sub-steps in which it is always done where it runs at the same time as another; empty if whole
    reference     it gives a reference (`r = ...`), the parameter k of its goal
    transient     it takes a reference for itself, the parameter k of its goal, which `then` puts
    by_address    of its pages, that at the higher address is v: the one declared first, or the later part of a huge
                  page
    on_frame      its rules take the page that the PTE maps (parameter f); where that is none it is refused
    on_slot       its rules take the swap slot that the swap entry names, or that the mapped page has (parameter s);
                  where that is none, or none of them is enabled, it is refused
    actor         `process`, `kernel` (`*:`), or `either` (`*:` stands for the first process's mapping)
    features      parts of the domain that it needs (model/features.py)
    since         the release of Linux that brought it, where that is later than the oldest kernel of the model; on an
                  older one the model does it all the same
    forms         of a caller's word (callers.py): from which release on it is which operation, with its flags
    """

    word: str
    arguments: tuple[str, ...]
    goal: tuple[str, ...] = ()
    refusal: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    quick: str = ""
    nothing: tuple[str, ...] = ()
    prepares: tuple[str, ...] = ()
    refused_first: bool = False
    then: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    whole_refusal: tuple[str, ...] = ()
    at_once: tuple[str, ...] = ()
    at_once_refusal: tuple[str, ...] = ()
    passes_over: bool = False
    flags: frozenset[str] = frozenset()
    raises: tuple[str, ...] = ()
    access: str = ""
    reference: bool = False
    transient: bool = False
    by_address: bool = False
    on_frame: bool = False
    of_parts: tuple[str, ...] = ()
    on_block: bool = False
    beside: str = ""
    on_slot: bool = False
    actor: str = "process"
    features: frozenset[str] = frozenset()
    since: str = ""
    forms: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Its word and flags, as a test says them."""
        return " ".join([self.word, *sorted(self.flags, reverse=True)])

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of all rules that it takes, but faults."""
        return tuple(filter(None, (
            *self.goal, *self.refusal, *self.perhaps, self.quick, *self.nothing, *self.prepares, *self.then,
            *self.whole, *self.whole_refusal, *self.at_once, *self.at_once_refusal, *self.raises,
        )))

    @property
    def stores(self) -> bool:
        """A device may store through the reference that it gives."""
        return "write" in self.flags or (bool(self.forms) and all("write" in form for _, form in self.forms))


ACCESSES = ("", "load", "store", "read-gup", "force", "unmerge", "collapse")
"""What an operation does to memory, as far as that raises faults."""


def faults(access: str, kernel: Decisions) -> tuple[tuple[str, ...], ...]:
    """Names of the fault rules such an access raises: groups, of which the first with an enabled rule counts."""
    match access:
        case "load":
            return (READ_FAULTS,)
        case "store":
            return (WRITE_FAULTS,)
        case "read-gup":
            # A forced write fault (17839856fd58) needs VM_WRITE; without it the reader's faults remain.
            reader = READ_FAULTS + UNSHARE_FAULTS
            return (WRITE_FAULTS, reader) if kernel.read_gup_writes else (reader,)
        case "force":
            return (WRITE_FAULTS, FORCED_FAULTS)
        case "unmerge":
            return (("unmerge-copy",),)
        case "collapse":
            return (SWAP_IN_FAULTS,)
        case "move":
            return (("uffd-move-split-pmd",), ("uffd-move-split",))
        case _:
            return ()


def blocks(access: str, kernel: Decisions) -> tuple[str, ...]:
    """Names of the rules by which such an access waits: for a userfaultfd monitor, of missing pages and write faults;
    for others to drop their references."""
    if access == "move":
        return ("uffd-move-again",)
    if access == "guard":
        return ("guard-install-again",)
    if access == "force":
        return ("userfault-missing", "userfault-wait", "force-userfault-wait")
    writes = access == "store" or (access == "read-gup" and kernel.read_gup_writes)
    missing = ("userfault-missing",) if access in ("load", "store", "read-gup") else ()
    return (*missing, "userfault-wait") if writes else missing


ZERO = frozenset({"zero"})
HUGE = frozenset({"huge"})
FORCE = frozenset({"force"})
KSM = frozenset({"ksm"})
EXEC = frozenset({"exec"})
NONE = frozenset({"prot-none"})
MADV_FORK = frozenset({"madv-fork"})
UFFD = frozenset({"uffd"})
GUARD = frozenset({"guard"})
PIN_SINCE = "5.6"
"""FOLL_PIN, pin_user_pages: domain.md 0.1."""
UFFD_WP_SINCE = "5.7"
"""UFFDIO_WRITEPROTECT of anonymous memory: domain.md 0.1."""
DONTUNMAP_SINCE = "5.7"
"""MREMAP_DONTUNMAP: domain.md 2.14."""
WIPEONFORK_SINCE = "4.14"
"""MADV_WIPEONFORK, MADV_KEEPONFORK: domain.md 2.14."""
POPULATE_SINCE = "5.14"
"""MADV_POPULATE_READ, MADV_POPULATE_WRITE: domain.md 2.14."""
GUARD_SINCE = "6.13"
"""MADV_GUARD_INSTALL, MADV_GUARD_REMOVE: domain.md 2.14."""
PAGEMAP_SCAN_SINCE = "6.7"
"""PAGEMAP_SCAN: domain.md 2.14."""
UFFD_MOVE_SINCE = "6.8"
"""UFFDIO_MOVE: domain.md 2.14."""
UFFD_CONTINUE_SINCE = "5.14"
"""UFFDIO_CONTINUE of shmem (of hugetlbfs: 5.13): domain.md 2.14."""


ARGUMENTS: dict[str, Sort] = {
    "p": Proc, "q": Proc, "v": Page, "w": Page, "n": Value, "k": Pin, "child": Proc, "f": Frame, "s": Slot,
}
"""What rules call the elements that an operation gives them: the process that does it (p, q), what the test names, and
the frame and the swap slot that it finds there (`on_frame`, `on_slot`)."""


def _kinds(*flags: str) -> tuple[str, ...]:
    """By which of its tests a GUP with FOLL_LONGTERM finds a page, in the names of rules."""
    if "longterm" not in flags:
        return ()
    return (*["force"] * ("force" in flags), "write" if "write" in flags else "read")


def _longterm(*flags: str) -> tuple[str, ...]:
    """What a GUP with FOLL_LONGTERM does before it raises a fault."""
    rules = tuple(f"longterm-migrate-{kind}" for kind in _kinds(*flags))
    return ("memalloc-pin-save", *rules) if rules else ()


def _kept_in_place(*flags: str) -> tuple[str, ...]:
    """Its refusals of a page that cannot leave ZONE_MOVABLE or CMA."""
    return tuple(f"longterm-refused-{kind}" for kind in _kinds(*flags))


def gup(word: str, goal: str, *flags: str) -> Operation:
    """get_user_pages with those flags."""
    write = "write" in flags
    refusal = ("gup-write-refused", *NO_WRITE) if write else ("gup-read-refused", *NO_READ)
    return Operation(
        word, ("v",), (goal,), (*refusal, *_kept_in_place(*flags)), raises=_longterm(*flags),
        flags=frozenset(flags),
        quick="" if word == "vmsplice" else f"fast-{goal}", access="store" if write else "read-gup", reference=True,
        prepares=("gup-touch",) if write else (), features=frozenset() if write else ZERO,
        since=PIN_SINCE if word == "pin" else "",
    )


def _forced(word: str, goal: str, *flags: str) -> Operation:
    """get_user_pages with FOLL_FORCE | FOLL_WRITE. In a writable VMA FOLL_FORCE changes nothing; in a read-only one it
    breaks COW."""
    plain = gup(word, goal, *flags, "force")
    return replace(
        plain, goal=(goal, f"{goal}-force"), refusal=("force-store-refused", *_kept_in_place(*flags, "force")),
        quick="", access="force",
        features=FORCE | ZERO,
    )


def _on_range(
    word: str, rule: str, *flags: str, nothing: tuple[str, ...] = (), features: frozenset[str] = frozenset(),
    since: str = "",
) -> Operation:
    """An operation on page tables that has a rule for one PTE and another for the whole of a huge page."""
    return Operation(
        word, ("v",), (rule,), (f"{rule}-refused",), nothing=nothing, prepares=("split-pmd",), flags=frozenset(flags),
        refused_first=True,
        at_once=(f"{rule}-range",), at_once_refusal=(f"{rule}-range-refused",), features=features, since=since,
    )


def _mprotect(*flags: str, features: frozenset[str] = frozenset()) -> Operation:
    rule = "-".join(("mprotect", *flags))
    return Operation(
        "mprotect", ("v",), (rule,), (f"{rule}-refused",), nothing=(f"{rule}-nothing",), prepares=("split-pmd",),
        flags=frozenset(flags), refused_first=True, at_once=(f"{rule}-range",),
        at_once_refusal=(f"{rule}-range-refused",), features=features,
    )


def _madv_fork(advice: str, since: str = "") -> Operation:
    rule = f"madv-{advice}"
    return Operation(
        rule, ("v",), (rule,), (f"{rule}-refused",), nothing=(f"{rule}-nothing",), prepares=("split-pmd",),
        refused_first=True, at_once=(f"{rule}-range",), passes_over=True, features=MADV_FORK, since=since,
    )


def _registers(*flags: str) -> Operation:
    rule = "-".join(("uffd-register", *flags))
    return Operation(
        "uffd-register", ("v",), (rule,), (f"{rule}-refused",), nothing=(f"{rule}-nothing",), prepares=("split-pmd",),
        flags=frozenset(flags), refused_first=True, whole=(f"{rule}-range",), whole_refusal=(f"{rule}-range-refused",),
        features=UFFD, since=UFFD_WP_SINCE if "wp" in flags else "",
    )


def _pageout(then: str, *flags: str) -> Operation:
    """Reclaim. `writing`: the page's writeback goes on, until `writeback-end`; `stable`: to a device that needs pages
    which do not change meanwhile; `sync`: to one that reads and writes at once."""
    devices = {"stable": ("swap-stable", "stable-writes"), "sync": ("swap-sync", "sync-swap")}
    on = [of for flag, of in devices.items() if flag in flags]
    return Operation(
        "pageout", ("v",),
        ("swap-out", "swap-out-cached", "discard-lazyfree", "discard-lazyfree-part", "reclaim-file-page"),
        ("swap-out-refused", "keep-lazyfree"),
        prepares=("split-folio", "age", *(rule for rule, _ in on)), then=(then,), flags=frozenset(flags),
        on_frame=True, actor="either", features=frozenset(feature for _, feature in on),
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation("write", ("v", "n"), ("store",), ("store-refused", *NO_WRITE), perhaps=("tlb-store", "store-accessed"),
              access="store"),
    Operation("read", ("v",), ("load",), ("load-refused", *NO_PAGE), perhaps=("load-accessed",), access="load",
              features=ZERO),
    Operation("fork", ("child",), ("fork",), ("fork-refused",)),
    Operation(
        "fork", ("child",), ("fork-event",), ("fork-refused",), flags=frozenset({"event"}),
        features=frozenset({"uffd-fork"}), since=UFFD_WP_SINCE,
    ),
    Operation("exit", (), ("exit",)),
    Operation("munmap", ("v",), ("munmap", "munmap-nothing"), prepares=("split-pmd",)),
    Operation("mmap", ("v",), ("mmap",), prepares=("split-pmd",), features=frozenset({"mmap"})),
    Operation(
        "dontneed", ("v",), ("dontneed",), ("dontneed-refused",), prepares=("split-pmd",), at_once=("dontneed-block",),
        passes_over=True,
    ),
    Operation(
        "mremap", ("v", "w"), ("mremap",), ("mremap-refused", "mremap-refused-unmaps"), prepares=("split-pmd",),
        refused_first=True, features=frozenset({"mremap"}),
    ),
    Operation(
        "mremap", ("v", "w"), ("mremap-dontunmap",), ("mremap-refused", "mremap-refused-unmaps"),
        prepares=("split-pmd",), refused_first=True, flags=frozenset({"dontunmap"}), features=frozenset({"mremap"}),
        since=DONTUNMAP_SINCE,
    ),
    _mprotect("ro"),
    _mprotect("rw"),
    _mprotect("rwx", features=EXEC),
    _mprotect("none", features=NONE),
    gup("vmsplice", "get-read"),
    gup("get", "get-read"),
    gup("get", "get-write", "write"),
    gup("pin", "pin-read"),
    gup("pin", "pin-write", "write"),
    gup("pin", "pin-read-longterm", "longterm"),
    gup("pin", "pin-write-longterm", "write", "longterm"),
    _forced("get", "get-write", "write"),
    _forced("pin", "pin-write-longterm", "write", "longterm"),
    Operation("drop", ("k",), ("unpin",), ("reference-missing",)),
    Operation("dma", ("k", "n"), ("dma-store",), ("reference-missing",)),
    Operation(
        "force-write", ("v", "n"), ("force-store",), ("force-store-refused",), access="force",
        features=frozenset({"force", "zero"}),
    ),
    Operation(
        "uffd-continue", ("v",), ("uffd-continue",), ("uffd-continue-refused",), access="load",
        features=frozenset({"file", "force"}), since=UFFD_CONTINUE_SINCE,
    ),
    Operation("clear-soft-dirty", (), ("clear-soft-dirty",), ("clear-soft-dirty-refused",)),
    _on_range("uffd-wp", "uffd-wp", since=UFFD_WP_SINCE),
    _on_range("uffd-unwp", "uffd-unwp", since=UFFD_WP_SINCE),
    _registers("missing"),
    _registers("wp"),
    _registers("missing", "wp"),
    _on_range("uffd-unregister", "uffd-unregister", nothing=("uffd-unregister-nothing",), features=UFFD),
    Operation("uffd-copy", ("v", "n"), ("uffd-copy",), ("uffd-copy-refused",), features=UFFD),
    Operation(
        "uffd-copy", ("v", "n"), ("uffd-copy-wp",), ("uffd-copy-wp-refused",), flags=frozenset({"wp"}), features=UFFD,
        since=UFFD_WP_SINCE,
    ),
    Operation(
        "uffd-zeropage", ("v",), ("uffd-zeropage",),
        ("uffd-copy-refused", "uffd-zeropage-refused", "uffd-zeropage-refused-guard"), features=UFFD | ZERO,
    ),
    _on_range(
        "pagemap-scan", "pagemap-scan", nothing=("pagemap-scan-nothing",), features=frozenset({"uffd-async"}),
        since=PAGEMAP_SCAN_SINCE,
    ),
    Operation(
        "uffd-move", ("v", "w"), ("uffd-move", "uffd-move-zero", "uffd-move-swapped"), ("uffd-move-refused",),
        access="move", of_parts=("uffd-move-split-pmd",),
        features=frozenset({"uffd-move", "zero"}), since=UFFD_MOVE_SINCE,
    ),
    Operation(
        "madv-free", ("v",), ("madv-free", "madv-free-swapped", "madv-free-nothing"), ("madv-free-refused",),
        prepares=("madv-free-split",), passes_over=True, features=frozenset({"lazyfree"}),
    ),
    Operation(
        "populate", ("v",), ("madv-populate-read",), ("gup-read-refused", *NO_PAGE), access="load",
        features=frozenset({"populate", "zero"}), since=POPULATE_SINCE,
    ),
    Operation(
        "populate", ("v",), ("madv-populate-write",), ("gup-write-refused", *NO_WRITE), access="store",
        prepares=("gup-touch",), flags=frozenset({"write"}), features=frozenset({"populate"}), since=POPULATE_SINCE,
    ),
    _madv_fork("dontfork"),
    _madv_fork("dofork"),
    _madv_fork("wipeonfork", WIPEONFORK_SINCE),
    _madv_fork("keeponfork", WIPEONFORK_SINCE),
    Operation(
        "guard-install", ("v",), ("guard-install",), ("guard-install-refused",), prepares=("split-pmd", "guard-zap"),
        refused_first=True, at_once=("guard-install-block",), access="guard", passes_over=True, features=GUARD,
        since=GUARD_SINCE,
    ),
    Operation(
        "guard-remove", ("v",), ("guard-remove",), ("guard-remove-refused",), passes_over=True, features=GUARD,
        since=GUARD_SINCE,
    ),
    # A page that nothing else refers to does not stay in the swap cache: it is written out and freed.
    _pageout("reclaim-swap-cache"),
    _pageout("reclaim-swap-cache", "sync"),
    _pageout("writeback-begin", "writing"),
    _pageout("writeback-begin", "writing", "stable"),
    Operation("writeback-end", ("v",), ("writeback-end",), on_slot=True, actor="either"),
    Operation(
        "migrate", ("v",), ("migrate", "migrate-folio"), ("migrate-refused",), on_frame=True, actor="either",
        features=frozenset({"migration"}),
    ),
    Operation(
        "ksm", ("v", "w"), ("ksm-merge", "ksm-join", "ksm-merge-nothing"),
        ("ksm-merge-undone", "ksm-merge-left", "ksm-merge-refused"),
        prepares=("split-pmd", "madvise-mergeable", "ksm-split", "ksm-split-other", "ksm-protect"),
        by_address=True, actor="either", features=KSM,
    ),
    Operation("unmerge", ("v",), ("unmerge",), ("unmerge-refused",), access="unmerge", passes_over=True, features=KSM),
    Operation(
        "numa", ("v",), ("numa-hint", "numa-hint-huge"), ("numa-hint-refused",), actor="either",
        features=frozenset({"numa"}),
    ),
    # Of a folio, of a block: the same for a part of it as for the whole.
    Operation(
        "split", ("v",), ("split-folio", "split-nothing"), ("split-folio-refused",),
        whole=("split-folio", "split-nothing"), whole_refusal=("split-folio-refused",), on_frame=True, actor="either",
        refused_first=True, features=HUGE,
    ),
    Operation(
        "collapse", ("v",), ("collapse", "collapse-nothing"), ("collapse-refused",),
        whole=("collapse", "collapse-nothing"), whole_refusal=("collapse-refused",), access="collapse", on_block=True,
        beside="collapse", actor="either", features=HUGE,
    ),
    Operation("extra-ref", ("v",), ("extra-ref",), on_frame=True, actor="either"),
    Operation("drop-extra", ("v",), ("drop-extra",), on_frame=True, actor="either"),
    Operation("trylock-fails", (), actor="kernel"),
    Operation("hugetlb-drain", ("v",), ("hugetlb-drain",), actor="kernel", features=frozenset({"hugetlb"})),
)


def form_of(word: str, flags: frozenset[str], among: Iterable[Operation] = OPERATIONS) -> Operation | None:
    """The operation that a word and its flags say, `fast` among them; None if there is none."""
    fast = "fast" in flags
    for operation in among:
        if operation.word == word and operation.flags == (flags - {"fast"} if operation.quick else flags):
            return replace(operation, prepares=()) if fast else replace(operation, quick="")
    return None
