"""Memory, swap devices and userfaultfds of certain kinds on real kernels: what tests about them need."""

from __future__ import annotations

from collections.abc import Mapping

from proofs.errors import NotObservable
from proofs.litmus.language import TRACKED, Litmus

HIDDEN = {"dirty": "the dirty bit of a PTE: smaps tells it no more than PG_dirty", "misplaced": "a page's index"}
"""What a condition asks and no kernel tells: word to what that is."""
EMPTIES = ("munmap", "mmap", "dontneed", "mremap", "madv-free", "guard-install")
"""What takes away what is mapped."""


def needs_zone(test: Litmus) -> bool:
    """Whether the test is for a machine with a ZONE_MOVABLE."""
    return any("movable" in page.attributes for page in test.pages)


def racing(test: Litmus) -> tuple[int, ...]:
    """Numbers of the statements that a debugger steers: those at the same time, of the first such line, or else the
    one that loses the page lock. Empty without any."""
    lost = loses_lock(test)
    return next((group for group in test.groups if len(group) > 1), () if lost is None else (lost,))


def loses_lock(test: Litmus) -> int | None:
    """The number of the write whose attempt at the page lock is the one that fails: it comes right after."""
    numbers = [n for n, statement in enumerate(test.statements, 1) if statement.operation.word == "trylock-fails"]
    if len(numbers) != 1 or any(len(group) > 1 for group in test.groups):
        return None
    follows = next(iter(test.statements[numbers[0]:]), None)
    return numbers[0] if follows and follows.operation.word == "write" and len(follows.parts) == 1 else None


def told_of(test: Litmus) -> int:
    """The number of a page whose userfaultfd is told of forks: one that says what that has, if there is any."""
    return next((n for n, page in enumerate(test.pages) if TRACKED & page.attributes), 0)


def check_needs(test: Litmus) -> None:
    """Raises NotObservable if no machine has memory, a swap device or a userfaultfd, as the test wants it, or shows
    what it asks."""
    for fact in test.facts:
        if fact.what in HIDDEN:
            raise NotObservable(f"nothing shows {HIDDEN[fact.what]}")
    forks = {"event" in s.operation.flags for s in test.statements if s.operation.word == "fork"}
    if len(forks) > 1:
        raise NotObservable("a monitor is told of each fork, or of none")
    if True in forks and len({TRACKED & page.attributes for page in test.pages}) > 1:
        raise NotObservable("one monitor is told of forks, and the pages have several")
    if {"guard-install", "pageout", "collapse"} <= {s.operation.word for s in test.statements}:
        raise NotObservable("a collapse that a guard ends has swapped in what comes before the guard")
    paged_out = {flag for s in test.statements if s.operation.word == "pageout" for flag in s.operation.flags}
    if {"sync", "writing"} <= paged_out:
        raise NotObservable("one swap device is used at a time: in memory, or slow")
    together = {number for group in test.groups if len(group) > 1 for number in group}
    if any("sync" in test.statements[number].operation.flags for number in together):
        raise NotObservable("a slot that is free again is set aside (swap slots cache): no other page gets it soon")
    if any("cma" in page.attributes for page in test.pages):
        raise NotObservable("no program makes its memory come from CMA")
    if needs_zone(test) and not all("movable" in page.attributes for page in test.pages):
        raise NotObservable("where there is a ZONE_MOVABLE, the memory of all pages comes from there")


def check_parts(test: Litmus, rest: Mapping[str, int]) -> None:
    """Raises NotObservable where a part of hundreds of pages is no page. `rest`: of each huge page the part that is.

    It moves; ksm takes its first; its folio is counted when the other parts are gone; its PTEs are changed together;
    only one of its pages is referenced, and the others are thrown away.
    """
    pages, merged, given_up = test.pages, set[int](), set[int]()
    many = {v for v in rest.values() if "huge" in pages[v].attributes}
    gone, referenced = set[str](), set[int]()
    cleared = False
    shown = {fact.of[1] for fact in test.facts if fact.what == "soft-dirty"}
    for statement in test.statements:
        for part in statement.parts:
            word, places = statement.operation.word, [part[name] for name in "vw" if name in part]
            alone = many.intersection(places) if len(statement.parts) == 1 else set[int]()
            if word in EMPTIES:
                gone |= {pages[v].whole for v in places if v not in many}
            if "k" in part:
                referenced |= many.intersection(places)
            cleared |= word == "clear-soft-dirty"
            if word == "ksm":
                merged.update(many.intersection(places))
            elif word in ("collapse", "uffd-wp", "uffd-unwp") and rest[pages[places[0]].whole] in merged:
                raise NotObservable(f"`{statement.text}` finds hundreds of pages, of which ksm has made one a VMA")
            elif word == "numa" and any(pages[v].whole in gone for v in alone):
                raise NotObservable(f"`{statement.text}` is of hundreds of pages, whose folio counts them")
            elif word in ("mprotect", "uffd-wp", "uffd-unwp") and cleared and alone & shown:
                raise NotObservable(f"`{statement.text}` is of hundreds of pages, whose PTEs 6.17 changes together")
            elif word == "madv-free" and referenced.intersection(places):
                given_up |= referenced.intersection(places)
            elif word == "pageout" and given_up.intersection(places):
                raise NotObservable(f"`{statement.text}` is of hundreds of pages, of which one is referenced")
            elif word == "uffd-move" and many.intersection(places):
                raise NotObservable(f"`{statement.text}` is of hundreds of pages")
            elif word == "mremap" and places[0] in many:
                page, onto = (pages[v] for v in places)
                if "huge" in onto.attributes and places[1] not in many:
                    raise NotObservable(f"{page.name} stands for hundreds of pages, {onto.name} for one")
                if places[0] in merged:
                    raise NotObservable(f"{page.name} stands for hundreds of pages: after ksm they are two VMAs")
