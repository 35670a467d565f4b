"""ZONE_MOVABLE and CMA on real kernels: what tests about them need."""

from __future__ import annotations

from proofs.errors import NotObservable
from proofs.litmus.language import Litmus


def needs_zone(test: Litmus) -> bool:
    """Whether the test is for a machine with a ZONE_MOVABLE."""
    return any("movable" in page.attributes for page in test.pages)


def check_zones(test: Litmus) -> None:
    """Raises NotObservable if no machine has memory as the test wants it."""
    if any("cma" in page.attributes for page in test.pages):
        raise NotObservable("no program makes its memory come from CMA")
    if needs_zone(test) and not all("movable" in page.attributes for page in test.pages):
        raise NotObservable("where there is a ZONE_MOVABLE, the memory of all pages comes from there")
