"""C is read path by path: what is asked of a page comes out as a formula; what is not known is named, never assumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3
from small_trees import BY_COUNT, COPY, REUSE, tree, write_fault

from model import decisions
from model.logic import ModelError
from proofs.source.csource import DEBIAN, NotRead, Tree, configuration
from proofs.source.findings import NOT_READ, READ
from proofs.source.survey import ASKED
from proofs.source.world import F, P, V, abstracted, said_by, word

BY_COUNT_AFTER_FREEING = f"""
	if (!PageAnon(page))
		goto copy;
	if (PageAnonExclusive(page))
		goto reuse;
	if (PageKsm(page))
		goto copy;
	if (PageSwapCache(page) && try_to_free_swap(page))
		;
	if (page_count(page) == 1) {{
reuse:
		{REUSE}
	}}
copy:
	{COPY}
"""
FREES = """
int try_to_free_swap(struct page *page)
{
	if (!PageSwapCache(page) || PageWriteback(page) || page_swapped(page))
		return 0;
	delete_from_swap_cache(page);
	return 1;
}
"""


def reuse(folder: Path, body: str, more: str = "", config: dict[str, bool] | None = None):
    return ASKED["reuse"].ask(tree(folder, write_fault(body, more), config))


@pytest.mark.parametrize(("body", "more", "rule"), [
    (BY_COUNT, "", decisions.page_count_is_one),
    (BY_COUNT_AFTER_FREEING, FREES, decisions.exclusive_or_page_count),
    # The same in other words: a test turned round, a jump out of a block, a name for a condition.
    (f"bool alone = page_count(page) <= 1;\nif (!alone || !PageAnon(page))\n goto copy;\n{REUSE}\ncopy:\n{COPY}", "",
     decisions.page_count_is_one),
])
def test_a_rule_in_c_is_proved_to_be_the_models(tmp_path: Path, body: str, more: str, rule: object) -> None:
    found = reuse(tmp_path, body, more)
    assert (found.how, found.why) == (READ, "")
    assert found.values == (rule,)


def test_whether_the_page_lock_is_only_tried_is_read(tmp_path: Path) -> None:
    sleeps = f"if (!trylock_page(page))\n\tlock_page(page);\n{BY_COUNT}"
    tries = f"if (!trylock_page(page))\n\t{COPY}\n{BY_COUNT}"
    for body, tried in ((sleeps, False), (tries, True), (BY_COUNT, False)):
        assert ASKED["trylock"].ask(tree(tmp_path, write_fault(body))).values == (tried,)


@pytest.mark.parametrize(("old", "new"), [
    ("== 1", "== 2"), ("== 1", "<= 2"), ("page_count(page) == 1 && ", ""), ("PageAnon(page) && ", ""),
])
def test_an_edit_that_matters_is_noticed_with_a_state_that_tells(tmp_path: Path, old: str, new: str) -> None:
    found = reuse(tmp_path, BY_COUNT.replace(old, new))
    assert found.how == READ
    assert found.values == ()
    assert "the tree says" in found.difference(decisions.page_count_is_one)


def test_an_edit_that_does_not_matter_is_proved_not_to(tmp_path: Path) -> None:
    early = f"if (page_count(page) > 3) {COPY}\n"
    assert reuse(tmp_path, early + BY_COUNT).values == (decisions.page_count_is_one,)


def test_a_rule_of_its_own_is_said_in_the_models_words(tmp_path: Path) -> None:
    found = reuse(tmp_path, BY_COUNT.replace("page_count(page) == 1", "!page_maybe_dma_pinned(page)"))
    assert found.values == ()
    assert set(found.words.split(" and ")) == {"not pinned", "an anonymous page"}
    assert "Not(maybe_pinned(f))" in found.python


def test_a_rule_by_numbers_that_the_model_has_not_is_named(tmp_path: Path) -> None:
    found = reuse(tmp_path, BY_COUNT.replace("== 1", "< 4"))
    assert (found.how, found.values, found.python) == (READ, (), "")
    assert "other mappings" in found.why


@pytest.mark.parametrize(("condition", "named"), [
    ("page->flags_of_mine", "page->flags_of_mine at mm/memory.c:5"), ("lucky == 3", "lucky at mm/memory.c:5"),
    ("asks_elsewhere(page)", "the vocabulary has no asks_elsewhere(), called at mm/memory.c:5"),
])
def test_what_is_not_known_is_named_with_its_line_and_never_assumed(tmp_path: Path, condition: str, named: str) -> None:
    found = reuse(tmp_path, BY_COUNT.replace("== 1", f"== 1 && {condition}"))
    assert found.how == NOT_READ
    assert named in found.why


def test_what_is_not_known_and_decides_nothing_is_listed(tmp_path: Path) -> None:
    found = reuse(tmp_path, f"int n = 0;\nif (vmf->mine)\n n = 1;\n{BY_COUNT}")
    assert found.values == (decisions.page_count_is_one,)
    assert found.ignored == ("vmf->mine at mm/memory.c:6",)


def test_a_small_callee_is_followed(tmp_path: Path) -> None:
    alone = "static bool alone(struct page *p)\n{\n\tif (PageKsm(p))\n\t\treturn false;\n" \
            "\treturn page_count(p) == 1;\n}\n"
    body = f"if (PageAnon(page) && alone(page)) {{ {REUSE} }}\n{COPY}"
    found = reuse(tmp_path, body, alone)
    assert found.values == (decisions.page_count_is_one,)
    assert "alone mm/memory.c:1" in found.where


def test_the_side_of_and_that_is_not_reached_has_no_effect(tmp_path: Path) -> None:
    # The swap cache is freed only where the left side holds, so a shared page's stays.
    body = f"""
	if (PageAnonExclusive(page) && try_to_free_swap(page))
		;
	{BY_COUNT}"""
    found = reuse(tmp_path, body, FREES)
    assert found.how == READ
    assert found.values == ()
    assert "PG_anon_exclusive" in found.words


@pytest.mark.parametrize(("body", "why"), [
    (f"while (page_count(page) > 1)\n cpu_relax();\n{BY_COUNT}", "a loop at mm/memory.c:5"),
    (f"again:\nif (page_count(page) > 1)\n goto again;\n{BY_COUNT}", "it jumps back to again again and again"),
    (f"if (page_count(page) == 1 {{{REUSE}}}\n{COPY}", "do_wp_page does not parse at mm/memory.c:5"),
])
def test_a_path_that_cannot_be_followed_says_where(tmp_path: Path, body: str, why: str) -> None:
    found = reuse(tmp_path, body)
    assert found.how == NOT_READ
    assert why in found.why


def test_a_loop_of_known_rounds_is_followed(tmp_path: Path) -> None:
    body = f"int n;\nbool busy = false;\nfor (n = 0; n < 2; n++)\n\tbusy = page_count(page) != 1;\n" \
           f"if (busy || !PageAnon(page))\n\t{COPY}\n{REUSE}"
    assert reuse(tmp_path, body).values == (decisions.page_count_is_one,)


def test_flags_are_known_bit_by_bit(tmp_path: Path) -> None:
    body = f"vmf->flags &= ~FAULT_FLAG_WRITE;\nif (vmf->flags & FAULT_FLAG_WRITE)\n\t{COPY}\n{BY_COUNT}"
    assert reuse(tmp_path, body).values == (decisions.page_count_is_one,)
    body = f"if ((vmf->flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE)) != FAULT_FLAG_WRITE)\n\t{COPY}\n{BY_COUNT}"
    assert reuse(tmp_path, body).values == (decisions.page_count_is_one,)


def test_a_configuration_decides_what_is_compiled(tmp_path: Path) -> None:
    body = f"#ifdef CONFIG_MINE\n\tif (PageAnonExclusive(page))\n\t\t{COPY}\n#endif\n{BY_COUNT}"
    assert reuse(tmp_path, body, config={**DEBIAN, "MINE": False}).values == (decisions.page_count_is_one,)
    assert reuse(tmp_path, body, config={**DEBIAN, "MINE": True}).values == ()
    assert "the configuration does not decide" in reuse(tmp_path, body).why


def test_of_two_definitions_the_configuration_chooses_one(tmp_path: Path) -> None:
    text = "#ifdef CONFIG_KSM\nint f(void)\n{\n\treturn 1;\n}\n#else\nint f(void)\n{\n\treturn 0;\n}\n#endif\n"
    with_ksm, without = tree(tmp_path, text).find("f"), tree(tmp_path, text, {"KSM": False}).find("f")
    assert with_ksm is not None
    assert without is not None
    assert (with_ksm.line, without.line) == (2, 7)
    with pytest.raises(NotRead, match=r"is defined at mm/memory\.c:2, mm/memory\.c:7; the configuration does not say"):
        tree(tmp_path, text, {"SWAP": True}).find("f")


def test_a_missing_function_is_named_with_one_like_it(tmp_path: Path) -> None:
    found = ASKED["reuse"].ask(tree(tmp_path, write_fault(BY_COUNT).replace("do_wp_page", "do_wp_pages")))
    assert found.how == NOT_READ
    assert "no function do_wp_page in mm/memory.c; there is do_wp_pages" in found.why


def test_a_folder_that_is_no_tree_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no kernel tree: it has no Makefile and no mm/memory\.c"):
        Tree(tmp_path)


def test_a_configuration_is_read_and_refused(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("CONFIG_KSM=y\nCONFIG_FOO=m\n# CONFIG_SWAP is not set\n")
    assert configuration(tmp_path / "config") == {"KSM": True, "FOO": True, "SWAP": False}
    (tmp_path / "empty").write_text("hello\n")
    with pytest.raises(ModelError, match="is no kernel configuration"):
        configuration(tmp_path / "empty")


def test_the_models_decisions_come_in_words_from_its_own_terms() -> None:
    said = abstracted(decisions.exclusive_or_page_count(P, V, F))
    alone = z3.And(word("alone"), z3.Not(word("swapped")), z3.Not(word("writeback")), z3.Not(word("referenced")),
                   z3.Not(word("transient")))
    solver = z3.Solver()
    solver.add(said != z3.Or(word("exclusive"), alone))
    assert solver.check() == z3.unsat


def test_a_decision_without_words_is_refused() -> None:
    from model.state import lazyfree  # noqa: PLC0415  only here

    with pytest.raises(ValueError, match="lazyfree"):
        abstracted(lazyfree(F))


def test_a_formula_is_said_by_the_fewest_words() -> None:
    a, b, c = (word(w) for w in ("exclusive", "ksm", "large"))
    formula = z3.Or(z3.And(a, b), z3.And(a, z3.Not(b), c), z3.And(a, z3.Not(b), z3.Not(c)))
    assert said_by(formula, [], ["exclusive", "ksm", "large"]) == [{"exclusive": True}]
    assert said_by(z3.Int("n") > 2, [], ["exclusive"]) is None
