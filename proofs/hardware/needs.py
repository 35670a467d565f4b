"""Memory and swap devices of certain kinds on real kernels: what tests about them need."""

from __future__ import annotations

from proofs.errors import NotObservable
from proofs.litmus.language import Litmus


def needs_zone(test: Litmus) -> bool:
    """Whether the test is for a machine with a ZONE_MOVABLE."""
    return any("movable" in page.attributes for page in test.pages)


def check_needs(test: Litmus) -> None:
    """Raises NotObservable if no machine has memory, or a swap device, as the test wants it."""
    together = {number for group in test.groups if len(group) > 1 for number in group}
    if any("sync" in test.statements[number].operation.flags for number in together):
        raise NotObservable("a slot that is free again is set aside (swap slots cache): no other page gets it soon")
    if any("cma" in page.attributes for page in test.pages):
        raise NotObservable("no program makes its memory come from CMA")
    if needs_zone(test) and not all("movable" in page.attributes for page in test.pages):
        raise NotObservable("where there is a ZONE_MOVABLE, the memory of all pages comes from there")
