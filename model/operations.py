"""What a thread, a device or reclaim does, made of rules: one operation of a litmus test is one or more kernel steps.

An operation takes an enabled `goal` rule and is done; else an enabled `refusal` ends it with an error; else an enabled
`block` rule leaves its thread waiting; else it takes a rule that its access may raise on the way (a fault) and tries
again. Only rule names stand here: what they do is said in the files of this package, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

READ_FAULTS = ("swap-cache-read", "swap-in-read")
WRITE_FAULTS = ("anon-fault", "swap-cache-read", "swap-in-write", "wp-reuse", "wp-copy")
UNSHARE_FAULTS = ("unshare-copy", "unshare-reuse")
"""Faults for a reader that must not share the page; get_user_pages raises them, a load never does."""

WHEN_TRYLOCK_FAILS = {"wp-reuse": "wp-copy-spurious"}
"""The rule that is taken instead, if the kernel has it and it is enabled, when an attempt at the page lock fails."""


@dataclass(frozen=True)
class Operation:
    """One operation, by its word and its flags.

    word, flags   how a litmus test says it: `pin` with `write` and `longterm`
    optional      flags that make no difference to the model: `fast`, whose sub-steps it does not have
    arguments     rule parameters that the test names, in order: v, w pages; n a value; k a reference; child a process
    goal, refusal rule names
    then          names of rules taken at once after the goal, on its slot s, where enabled
    access        `load`, `store` or `read-gup`: which faults it raises; empty if none
    reference     it gives a reference (`r = ...`), the parameter k of its goal
    on_frame      its rules take the page that the PTE maps (parameter f); where none is enabled it is refused
    actor         `process`, `kernel` (`*:`), or `either` (`*:` stands for the first process's mapping)
    missing       what the model lacks for it; empty if it can run
    """

    word: str
    arguments: tuple[str, ...]
    goal: tuple[str, ...] = ()
    refusal: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    access: str = ""
    reference: bool = False
    on_frame: bool = False
    actor: str = "process"
    missing: str = ""


def faults(access: str, kernel: Any) -> tuple[tuple[str, ...], ...]:
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
        case _:
            return ()


def blocks(access: str, kernel: Any) -> tuple[str, ...]:
    """Names of the rules by which such an access waits for a userfaultfd monitor: write faults only."""
    writes = access == "store" or (access == "read-gup" and kernel.read_gup_writes)
    return ("userfault-wait",) if writes else ()


def _gup(word: str, goal: str, *flags: str) -> Operation:
    write = "write" in flags
    return Operation(
        word, ("v",), (goal,), ("gup-write-refused" if write else "gup-read-refused",), (), frozenset(flags),
        frozenset() if word == "vmsplice" else frozenset({"fast"}), "store" if write else "read-gup", reference=True,
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation("write", ("v", "n"), ("store",), ("store-refused",), access="store"),
    Operation("read", ("v",), ("load",), ("load-refused",), access="load"),
    Operation("fork", ("child",), ("fork",)),
    Operation("exit", (), ("exit",)),
    Operation("munmap", ("v",), ("munmap", "munmap-nothing")),
    Operation("dontneed", ("v",), ("dontneed",), ("dontneed-refused",)),
    Operation("mprotect", ("v",), ("mprotect-ro",), ("mprotect-ro-refused",), flags=frozenset({"ro"})),
    Operation("mprotect", ("v",), ("mprotect-rw",), ("mprotect-rw-refused",), flags=frozenset({"rw"})),
    _gup("vmsplice", "get-read"),
    _gup("get", "get-read"),
    _gup("get", "get-write", "write"),
    _gup("pin", "pin-read"),
    _gup("pin", "pin-write", "write"),
    _gup("pin", "pin-read-longterm", "longterm"),
    _gup("pin", "pin-write-longterm", "write", "longterm"),
    Operation("drop", ("k",), ("unpin",), ("reference-missing",)),
    Operation("dma", ("k", "n"), ("dma-store",), ("reference-missing",)),
    Operation("clear-soft-dirty", (), ("clear-soft-dirty",), ("clear-soft-dirty-refused",)),
    Operation("uffd-wp", ("v",), ("uffd-wp",), ("uffd-wp-refused",)),
    Operation("uffd-unwp", ("v",), ("uffd-unwp",), ("uffd-unwp-refused",)),
    # A page that nothing else refers to does not stay in the swap cache: it is written out and freed.
    Operation(
        "pageout", ("v",), ("swap-out", "swap-out-cached"), ("swap-out-refused",), ("reclaim-swap-cache",),
        on_frame=True, actor="either",
    ),
    Operation("extra-ref", ("v",), ("extra-ref",), on_frame=True, actor="either"),
    Operation("drop-extra", ("v",), ("drop-extra",), on_frame=True, actor="either"),
    Operation("trylock-fails", (), actor="kernel"),
    Operation("mremap", ("v", "w"), missing="moving of page tables"),
    Operation("force-write", ("v", "n"), missing="FOLL_FORCE"),
    Operation("ksm", ("v", "w"), actor="either", missing="KSM pages"),
    Operation("migrate", ("v",), actor="either", missing="migration entries"),
    Operation("split", ("v",), actor="either", missing="huge pages"),
    Operation("collapse", ("v",), actor="either", missing="huge pages"),
)

MISSING_PAGES = {"huge": "huge pages", "zero": "the zero page", "file": "page cache pages"}
"""Kinds of page that the model lacks, by the word that declares them."""
