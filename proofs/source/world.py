"""The words in which C and the model meet: what a page's counters and bits say, as terms of both.

A decision of the model is a formula over state functions, for any number of processes and references. A word stands for
a part of such a formula (`mapped_only_by(p, v, f)`: "no other mapping") and for what C can ask about it, often through
a number: `folio_ref_count` is 1 + others + ..., and "no other mapping" is `others == 0`. Nothing about the two is
assumed but that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import z3
from z3 import And, Bool, Const, Implies, Int, Not

from model import decisions, state
from model.logic import exists, functions_in
from model.state import Frame, Page, Proc, Slot
from proofs.source.values import UNKNOWN

Term = Any
P, V, F, S = Const("p", Proc), Const("v", Page), Const("f", Frame), Const("s", Slot)


@dataclass(frozen=True)
class CWord:
    """One word: its constant, its term in the model, how Python writes that, and in words if it is so and if not."""

    name: str
    term: Term
    python: str
    yes: str
    no: str

    @property
    def constant(self) -> Term:
        return Bool(f"{self.name}.")


def _stable_slot(f: Term) -> Term:
    return exists(Slot, lambda s: And(state.cached(s), state.slot_frame(s) == f, state.needs_stable_page(s)))


WORDS = {w.name: w for w in (
    CWord("alone", state.mapped_only_by(P, V, F), "mapped_only_by(p, v, f)", "no other mapping", "another mapping"),
    CWord("mapped", state.mapped(F), "mapped(f)", "mapped somewhere", "mapped nowhere"),
    CWord("one-mm", state.mapped_only_in(P, F), "mapped_only_in(p, f)", "mapped by this mm only",
          "mapped by another mm"),
    CWord("mapped-once", state.sub_pages_mapped_once(P, V, F), "sub_pages_mapped_once(p, v, f)",
          "no sub-page has another mapping", "a sub-page has another mapping"),
    CWord("page-mapped-once", decisions.page_mapcount_is_one(P, V, F), "page_mapcount_is_one(p, v, f)",
          "no other mapping of this sub-page", "another mapping of this sub-page"),
    CWord("referenced", state.referenced(F), "referenced(f)", "references of get_user_pages",
          "no get_user_pages reference"),
    CWord("pinned", state.maybe_pinned(F), "maybe_pinned(f)", "maybe pinned (FOLL_PIN)", "not pinned"),
    CWord("transient", state.transient(F), "transient(f)", "a transient reference", "no transient reference"),
    CWord("swap-cache", state.in_swap_cache(F), "in_swap_cache(f)", "in the swap cache", "not in the swap cache"),
    CWord("swapped", state.page_swapped(F), "page_swapped(f)", "a swap entry names it", "no swap entry names it"),
    CWord("writeback", state.in_writeback(F), "in_writeback(f)", "under writeback", "not under writeback"),
    CWord("needs-stable", _stable_slot(F), "_needs_stable(f)", "written by a device that needs stable pages",
          "no device that needs stable pages writes it"),
    CWord("exclusive", state.exclusive(F), "exclusive(f)", "PG_anon_exclusive", "not PG_anon_exclusive"),
    CWord("nonanon", state.nonanon(F), "nonanon(f)", "a page of the page cache or the zero page", "an anonymous page"),
    CWord("page-cache", state.in_page_cache(F), "in_page_cache(f)", "a page of the page cache",
          "no page of the page cache"),
    CWord("ksm", state.ksm(F), "ksm(f)", "a KSM page", "no KSM page"),
    CWord("large", state.large(F), "large(f)", "in a large folio", "an order-0 page"),
    CWord("has-pinned", state.has_pinned(P), "has_pinned(p)", "mm->has_pinned", "not mm->has_pinned"),
    CWord("writable", state.pte_write(P, V), "pte_write(p, v)", "the PTE is writable", "the PTE is read-only"),
    CWord("dirty", state.pte_dirty(P, V), "pte_dirty(p, v)", "the PTE is dirty", "the PTE is clean"),
    CWord("soft-dirty", state.pte_soft_dirty(P, V), "pte_soft_dirty(p, v)", "the PTE is soft-dirty",
          "the PTE is not soft-dirty"),
    CWord("vma-soft-dirty", state.vma_soft_dirty(P), "vma_soft_dirty(p)", "VM_SOFTDIRTY", "no VM_SOFTDIRTY"),
    CWord("vma-new", state.vma_new(P, V), "vma_new(p, v)", "VM_SOFTDIRTY of a VMA newer than the last clear_refs",
          "an old VMA"),
    CWord("uffd-wp", state.pte_uffd_wp(P, V), "pte_uffd_wp(p, v)", "uffd-wp is set", "uffd-wp is not set"),
    CWord("uffd-wp-left", state.vma_unwatched(P, V), "vma_unwatched(p, v)", "mremap left the uffd-wp bit",
          "the uffd-wp bit is of a registered VMA"),
    CWord("vma-write", state.vma_write(P, V), "vma_write(p, v)", "VM_WRITE", "no VM_WRITE"),
    CWord("huge", state.pte_huge(P, V), "pte_huge(p, v)", "mapped by a PMD", "mapped by a PTE"),
    CWord("swapped-alone", state.swapped_only_by(P, V, S), "swapped_only_by(p, v, s)", "no other swap entry",
          "another swap entry"),
    CWord("slot-writeback", state.writeback(S), "writeback(s)", "under writeback", "not under writeback"),
    CWord("stable-writes", state.stable_writes(S), "stable_writes(s)", "the device needs stable pages",
          "the device needs no stable pages"),
    CWord("swap-exclusive", state.pte_swap_exclusive(P, V), "pte_swap_exclusive(p, v)", "the swap entry is exclusive",
          "the swap entry is not exclusive"),
)}

OTHERS, REFERENCES = Int("other mappings"), Int("references")
TRANSIENT, LOCAL = Int("transient references"), Int("in this CPU's LRU batch")
SUB_PAGES, ENTRIES = Int("sub-pages"), Int("swap entries")


def word(name: str) -> Term:
    """The constant of a word."""
    return WORDS[name].constant


COUNTS: tuple[Term, ...] = (
    # What C asks of the VMA and of the bit is one word; so is VM_SOFTDIRTY.
    Not(word("uffd-wp-left")), Not(word("vma-new")),
    OTHERS >= 0, REFERENCES >= 0, TRANSIENT >= 0, LOCAL >= 0, LOCAL <= TRANSIENT, SUB_PAGES >= 2, ENTRIES >= 0,
    (REFERENCES > 0) == word("referenced"), (TRANSIENT > 0) == word("transient"),
    Implies(word("pinned"), word("referenced")), Implies(word("page-cache"), word("nonanon")),
)
"""What numbers and words have to do with each other, for any page."""
PAGE: tuple[Term, ...] = (
    *COUNTS, (OTHERS == 0) == word("alone"), Implies(word("alone"), word("one-mm")), (ENTRIES > 0) == word("swapped"),
    Implies(word("swapped"), word("swap-cache")), Implies(word("writeback"), word("swap-cache")),
    Implies(word("needs-stable"), word("writeback")),
)
"""... for one that a PTE or PMD maps."""
SLOT: tuple[Term, ...] = (
    *COUNTS, (OTHERS > 0) == word("mapped"), (ENTRIES == 0) == word("swapped-alone"),
)
"""... for one that a swap entry leads to, in the swap cache."""


def abstracted(term: Term) -> Term:
    """A decision of the model over the words. Raises ValueError, naming them, if it says what no word says."""
    # The largest first: they contain the smaller ones, with other things bound in them.
    for each in sorted(WORDS.values(), key=lambda w: -len(w.term.sexpr())):
        term = z3.substitute(term, (each.term, each.constant))
    if left := functions_in(term):
        raise ValueError(", ".join(sorted(left)))
    return term


def constants(term: Term) -> dict[str, Term]:
    """The constants in a formula, by name."""
    found: dict[str, Term] = {}
    todo, done = [term], set()
    while todo:
        each = todo.pop()
        if each.get_id() in done:
            continue
        done.add(each.get_id())
        if z3.is_const(each) and each.decl().kind() == z3.Z3_OP_UNINTERPRETED:
            found[each.decl().name()] = each
        todo += each.children()
    return found


def solved(facts: Sequence[Term], *terms: Term) -> z3.ModelRef | None:
    """A model of the terms, None if there is none. Raises ValueError if z3 cannot tell."""
    solver = z3.Solver()
    solver.set("timeout", 10_000)
    solver.add(*facts, *terms)
    result = solver.check()
    if result == z3.unknown:
        raise ValueError("z3 cannot tell")
    return solver.model() if result == z3.sat else None


def unknowns_of(term: Term, facts: Sequence[Term]) -> list[str]:
    """The unknown constants on which a formula depends."""
    names = {n: c for n, c in constants(term).items() if n.startswith(UNKNOWN)}
    if not names:
        return []
    others = [(c, Const(n + "'", c.sort())) for n, c in names.items()]
    if solved(facts, term != z3.substitute(term, *others)) is None:
        return []
    alone = [n for n, c in names.items()
             if solved(facts, term != z3.substitute(term, (c, Const(n + "'", c.sort())))) is not None]
    return alone or sorted(names)


def in_words(model: z3.ModelRef, spoken: Mapping[str, Term]) -> str:
    """A state, as far as those constants, by name, say."""
    said = []
    for name, constant in sorted(spoken.items()):
        value = model.eval(constant, model_completion=True)
        known = WORDS.get(name.rstrip("."))
        if name.startswith(UNKNOWN):
            continue
        if known is not None:
            said.append(known.yes if z3.is_true(value) else known.no)
        elif z3.is_bool(constant):
            said.append(name if z3.is_true(value) else f"not {name}")
        elif str(value) != "0" and name != "sub-pages":
            said.append(f"{name}: {value}")
    return ", ".join(dict.fromkeys(said))


_IMPLIED = {"other mappings": ("alone", "mapped"), "references": ("referenced",),
            "transient references": ("transient",), "swap entries": ("swapped", "swapped-alone"),
            "mapcount of the sub-page": ("page-mapped-once",), "mapcount and swapcount": ("mapped-once", "swapped")}


def said_by(formula: Term, facts: Sequence[Term], words: Sequence[str]) -> list[dict[str, bool]] | None:
    """The formula as a disjunction of conjunctions of words, each a dict from word to whether it holds.

    None if the words do not decide it: then it depends on numbers, or on what has no word.
    """
    def literals(cube: Mapping[str, bool]) -> list[Term]:
        return [word(w) if on else Not(word(w)) for w, on in cube.items()]

    solvers = {holds: z3.Solver() for holds in (True, False)}
    for holds, solver in solvers.items():
        solver.add(*facts, formula if holds else Not(formula))

    def possible(cube: Mapping[str, bool], holds: bool) -> bool:
        """The words of the cube allow the formula, or its negation."""
        return bool(solvers[holds].check(*literals(cube)) != z3.unsat)

    def cubes(known: dict[str, bool], left: Sequence[str]) -> list[dict[str, bool]] | None:
        if not possible(known, True):
            return []
        if not possible(known, False):
            return [known]
        if not left:
            return None
        halves = [cubes({**known, left[0]: on}, left[1:]) for on in (True, False)]
        return None if None in halves else [c for half in halves for c in half or ()]

    true = cubes({}, words)
    if true is None:
        return None
    found: list[dict[str, bool]] = []
    for cube in true:
        short = dict(cube)
        for w in cube:
            rest = {x: on for x, on in short.items() if x != w}
            if not possible(rest, False):
                short = rest
        if not any(known.items() <= short.items() for known in found):
            found.append(short)
    needed = list(found)
    for cube in found:
        rest_of = [c for c in needed if c is not cube]
        covered = z3.Or(*(And(*literals(c)) for c in rest_of))
        if rest_of and solved(facts, *literals(cube), Not(covered)) is None:
            needed = rest_of
    return needed


def words_in(formula: Term, facts: Sequence[Term]) -> list[str]:
    """The words that a formula speaks of, by themselves or through numbers, and that the facts leave open."""
    names = {n.rstrip(".") for n in constants(formula)}
    known = {n.rstrip(".") for n in constants(And(*facts))}
    found = [w for w in WORDS if w in names]
    for number, implied in _IMPLIED.items():
        if number in names:
            found += [w for w in implied if w not in found and w in known]
    return [w for w in found if solved(facts, word(w)) is not None and solved(facts, Not(word(w))) is not None]


def python_of(cubes: Sequence[Mapping[str, bool]]) -> str:
    """The disjunction as Python, over the model's state functions."""
    parts = []
    for cube in cubes:
        literals = [WORDS[w].python if on else f"Not({WORDS[w].python})" for w, on in cube.items()]
        parts.append(literals[0] if len(literals) == 1 else f"And({', '.join(literals)})" if literals
                     else "BoolVal(True)")
    return parts[0] if len(parts) == 1 else f"Or({', '.join(parts)})" if parts else "BoolVal(False)"


def text_of(cubes: Sequence[Mapping[str, bool]]) -> str:
    """The disjunction in words."""
    parts = [" and ".join(WORDS[w].yes if on else WORDS[w].no for w, on in cube.items()) or "always" for cube in cubes]
    return "; or ".join(parts) or "never"

