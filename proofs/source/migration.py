"""Which bits migration keeps in the entry that it puts in a PMD's place, as a question to C."""

from __future__ import annotations

from typing import Any

from z3 import And, BoolVal, Not

from proofs.source.entries import event, made_by
from proofs.source.faults import NO
from proofs.source.findings import Candidate, DecisionReader
from proofs.source.paths import Path
from proofs.source.values import Term, Thing
from proofs.source.vocabulary import ANON, VMA, vocabulary
from proofs.source.world import LOCAL, word

_MADE = lambda match, world: Thing(match[0])  # noqa: E731
_WORDS: list[tuple[str, Any]] = [
    (r"pvmw->pmd", Thing("pmd")), (r"pvmw->pte", 0), (r"pvmw->vma", Thing("vma")),
    (r"\*pmd|(pmdp_invalidate|pmdp_huge_get_and_clear|pmdp_get)\w*\(.*\)", Thing("pmd")), (r"pmd_present\(pmd\)", True),
    (r"pmd_(uffd_wp|uffd)\(pmd\)", word("uffd-wp")), (r"pmd_soft_dirty\(pmd\)", word("soft-dirty")),
    (r"pmd_write\(pmd\)", word("writable")), (r"pmd_(young|dirty)\(pmd\)", True),
    (r"(pmd_swp_mk\w+|swp_entry_to_pmd|softleaf_to_pmd)\(.*\)", _MADE),
]
_INERT = r"make_\w+|trace_\w+|pmd_val|folio_mark_dirty|set_page_dirty|page_to_pfn"


def _entry_bit(path: Path) -> Term | None:
    """The migration entry that is put in place is marked uffd-wp."""
    made = event(path, "set_pmd_at")
    if path.end not in ("return", "stop") or made is None:
        return None
    return BoolVal(made_by(made, r"\bpmd_swp_mkuffd(_wp)?\("))


QUESTIONS: tuple[DecisionReader, ...] = (
    DecisionReader("migration_keeps_uffd_wp", ("set_pmd_migration_entry",), vocabulary(
        (ANON, Not(word("ksm")), LOCAL == 0, VMA, word("large"), word("huge"),
         Not(And(word("exclusive"), word("pinned")))), _WORDS,
        events=("set_pmd_at",), inert=_INERT), _entry_bit,
             lambda: [Candidate(True, word("uffd-wp")), Candidate(False, NO)], "a THP that is not pinned",
             ("mm/huge_memory.c",)),
)
