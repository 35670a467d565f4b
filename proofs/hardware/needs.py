"""Memory, swap devices and userfaultfds of certain kinds on real kernels: what tests about them need."""

from __future__ import annotations

from proofs.errors import NotObservable
from proofs.litmus.language import TRACKED, Litmus

HIDDEN = {"dirty": "the dirty bit of a PTE: smaps tells it no more than PG_dirty", "misplaced": "a page's index"}
"""What a condition asks and no kernel tells: word to what that is."""


def needs_zone(test: Litmus) -> bool:
    """Whether the test is for a machine with a ZONE_MOVABLE."""
    return any("movable" in page.attributes for page in test.pages)


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
    together = {number for group in test.groups if len(group) > 1 for number in group}
    if any("sync" in test.statements[number].operation.flags for number in together):
        raise NotObservable("a slot that is free again is set aside (swap slots cache): no other page gets it soon")
    if any("cma" in page.attributes for page in test.pages):
        raise NotObservable("no program makes its memory come from CMA")
    if needs_zone(test) and not all("movable" in page.attributes for page in test.pages):
        raise NotObservable("where there is a ZONE_MOVABLE, the memory of all pages comes from there")
