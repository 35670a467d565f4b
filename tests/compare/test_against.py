"""A kernel against another one: what is worse, which decisions matter, what to do next, and a mail of it."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest
from z3 import And, Not, Or

from invariants import invariant
from model.kernels import V7_2
from model.logic import Term
from model.state import exclusive, maybe_pinned
from proofs.check.cells import Cell
from proofs.check.scopes import scope_named
from proofs.cli.main import main
from proofs.compare import against
from proofs.compare.against import ASIDE, BETTER, SAME, UNDECIDED, WORSE, Compared, advice, exit_code, judged
from proofs.compare.alike import Known, candidates, unlike
from proofs.compare.answer import KernelComparison, to_text, told_changes
from proofs.compare.changed import ALIKE, OTHERWISE, UNREACHED, UNREAD, added, changes
from proofs.compare.mail import to_mail
from proofs.explore.search import explore
from proofs.naming.specs import find_kernel, system_of

SMALL = scope_named("2,1,2,1,1")
PATCHES = """
from model import V7_2, And, Not, Or, Page, Param, Proc, Step, put, rule
from model.decisions import always, never
from model.state import exclusive, mapped_only_by, maybe_pinned, page_swapped, pte_present, pte_swap, pte_write


def odd(p, v, f):
    alone = And(mapped_only_by(p, v, f), Not(page_swapped(f)))
    return Or(V7_2.reuse(p, v, f), And(maybe_pinned(f), Not(exclusive(f)), alone))


@rule([Param("p", Proc), Param("v", Page)], "nowhere", "a test")
def both(kernel, p, v):
    "A PTE that is present and a swap entry becomes writable."
    return Step([pte_present(p, v), pte_swap(p, v)], put(pte_write(p, v), True))


DEAD = V7_2.but("dead", "7.2 with a dead condition", reuse=odd)
DEADER = DEAD.but("deader", "and a dead rule, and what nobody asks", reuse_ksm=always, own_rules=(both,))
RECLAIMING = V7_2.but("reclaiming", "7.2 that reclaims pinned pages", swap_out_pinned="allow", unmap_pinned="allow")
SHARING = V7_2.but("sharing", "7.2 whose fork shares pinned pages", fork_copies=never)
"""


@pytest.fixture
def patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.py").write_text(PATCHES)


@pytest.mark.usefixtures("patches")
def test_what_does_nothing_alone_may_matter_together() -> None:
    """With swap_out_pinned alone a pinned page is exclusive, so that unmapping it is refused."""
    found = changes("v7.2", "my.py:RECLAIMING", SMALL)
    assert {c.decision.name: c.answer for c in found.changes} == {"swap_out_pinned": ALIKE, "unmap_pinned": OTHERWISE}
    assert not found.alike
    assert "  What does nothing alone may matter together with the others." in told_changes(found, 80)


def cell(verdict: str, note: str = "") -> Cell:
    return Cell("k", "i", verdict, "all", 0.0, False, note=note)


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("PROVED", "VIOLATED", WORSE), ("EXHAUSTED", "VIOLATED", WORSE),
    ("VIOLATED", "PROVED", BETTER), ("VIOLATED", "EXHAUSTED", BETTER),
    ("VIOLATED", "VIOLATED", SAME), ("PROVED", "EXHAUSTED", SAME), ("EXHAUSTED", "PROVED", SAME),
    ("PROVED", "UNKNOWN", UNDECIDED), ("EXHAUSTED", "BOUNDED", UNDECIDED), ("UNKNOWN", "VIOLATED", UNDECIDED),
    ("UNKNOWN", "UNKNOWN", UNDECIDED), ("VIOLATED", "UNKNOWN", ASIDE), ("UNKNOWN", "PROVED", ASIDE),
])
def test_what_became_of_a_promise(old: str, new: str, expected: str) -> None:
    assert judged(cell(old), cell(new)) == expected


def test_what_is_not_asked_of_one_of_them_is_put_aside() -> None:
    assert judged(None, cell("VIOLATED")) == judged(cell("PROVED"), None) == ASIDE


@pytest.mark.parametrize(("found", "code"), [
    ((WORSE, UNDECIDED, BETTER), 1), ((UNDECIDED, BETTER), 3), ((BETTER, SAME, ASIDE), 0), ((), 0),
])
def test_the_exit_code_is_of_the_worst(found: tuple[str, ...], code: int) -> None:
    assert exit_code([Compared("i", None, None, each) for each in found]) == code


@pytest.mark.parametrize(("known", "word"), [
    (cell("EXHAUSTED", "no proof: no proof after 120 s"), "--proof-time"),
    (cell("EXHAUSTED", "no proof: no candidate excludes it, see out/x.cti.trace.json"), "out/x.cti.trace.json"),
    (cell("EXHAUSTED"), "--engine all"), (cell("UNKNOWN", "out of time after 9 s"), "--timeout"),
    (cell("UNKNOWN", "out of memory: 8 GiB"), "--memory"), (cell("BOUNDED"), "--depth"),
])
def test_what_is_open_comes_with_what_to_do_next(known: Cell, word: str) -> None:
    assert word in advice(known)
    assert advice(cell("PROVED")) == advice(cell("VIOLATED")) == ""


@pytest.mark.usefixtures("patches")
def test_changes_that_never_matter_are_told_apart_and_said() -> None:
    found = changes("v7.2", "my.py:DEADER", SMALL)
    assert {c.decision.name: c.answer for c in found.changes} == {
        "reuse": ALIKE, "reuse_ksm": UNREAD, "rule both": UNREACHED,
    }
    assert [c.how for c in found.changes if c.how] == ["the condition that it adds never holds"]
    because = {c.decision.name: c.because for c in found.changes}
    assert because["reuse"] == ("FOLL_PIN(k), refers to(k, f) => exclusive(f)",)
    assert because["rule both"] == ("never present(p, v), swap entry(p, v)",)
    assert found.alike
    assert found.explored is None
    rows = (Compared("uffd-wp", cell("PROVED"), cell("EXHAUSTED", "no proof: no proof after 1 s"), SAME),)
    claims = (invariant("uffd-wp"),)
    answer = KernelComparison("v7.2", "my.py:DEADER", "dead", rows, found, None, "", "small", claims)
    assert "odd, as my.py:DEADER has it: def odd(p, v, f): alone = And(" in " ".join(to_mail(answer, "c", "v").split())
    said = to_text(answer)
    assert said.startswith("my.py:DEADER against v7.2: 1 the same\n")
    assert max(map(len, said.splitlines())) <= 80
    assert "\n\n\n" not in said
    assert not said.endswith("\n\n")
    flat = " ".join(said.split())
    assert "reuse: exclusive_or_page_count -> odd The condition that it adds never holds. Never decides" in flat
    assert "These change no rule by themselves with these features: reuse_ksm." in flat
    assert "Nothing tells them apart." in flat
    assert "Next, for uffd-wp on my.py:DEADER (EXHAUSTED): a longer --proof-time" in flat
    assert "A shortest test" not in flat


def test_what_a_predicate_adds_may_imply_the_old_one_or_hold_with_it_anyway() -> None:
    """7.2 asks for PG_anon_exclusive or the count, and a page that is pinned by FOLL_PIN is exclusive."""
    system = V7_2.system()
    known = Known(system, candidates(V7_2, system))

    def asks_more(p: Term, v: Term, f: Term) -> Term:
        return Or(V7_2.reuse(p, v, f), And(exclusive(f), maybe_pinned(f)))

    def asks_less(p: Term, v: Term, f: Term) -> Term:
        return And(V7_2.reuse(p, v, f), Or(exclusive(f), Not(maybe_pinned(f))))

    def asks_otherwise(p: Term, v: Term, f: Term) -> Term:
        return And(V7_2.reuse(p, v, f), Not(maybe_pinned(f)))

    assert [added(known, "reuse", V7_2.reuse, new) for new in (asks_more, asks_less, asks_otherwise)] == [
        "the condition that it adds implies the old one",
        "the condition that it adds holds wherever the old one does", "",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), [("v5.12", "v5.18"), ("v6.0", "v6.15")])
def test_no_state_of_a_scope_contradicts_what_is_proved(old: str, new: str) -> None:
    kernels, system = (find_kernel(old), find_kernel(new)), system_of(old)
    proved = [c for c in changes(old, new, SMALL).changes if c.answer in (ALIKE, UNREACHED)]
    assert proved
    for change in proved:
        name = change.decision.name
        other = kernels[0].but("other", "with one change", **{name: getattr(kernels[1], name)}).system()
        claims = [pair.claim(pair.name, SMALL) for pair in unlike(system, other)]
        found = explore(system, SMALL, [claim for claim in claims if claim is not None])
        assert found.complete
        assert [f.claim.name for f in found.findings if f.path is not None] == []
        if change.answer == UNREACHED:
            assert all(f.vacuous for f in found.findings)


@pytest.mark.usefixtures("patches")
def test_a_change_that_matters_comes_with_the_shortest_way_there() -> None:
    found = changes("v7.2", "my.py:SHARING", SMALL)
    (change,) = found.changes
    assert (change.decision.name, change.answer, change.rule) == ("fork_copies", OTHERWISE, "fork")
    assert len(change.path) == 2
    assert not found.alike


@pytest.mark.usefixtures("patches")
def test_what_is_worse_is_told_as_a_mail_and_in_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["check", "-k", "my.py:SHARING", "--against", "v7.2", "-i", "coherence-write-pin", "-i", "write-bit",
             "--engine", "explore", "--tell", "200"]
    assert main([*given, "--mail", "--report", "pages"]) == 1
    mail = capsys.readouterr().out
    assert max(map(len, mail.splitlines())) <= 72
    flat = " ".join(mail.split())
    for words in (
        "1 worse, 1 the same", "python -m proofs check -k my.py:SHARING --against v7.2",
        "* coherence-write-pin: holds in the scope; now broken in 4 steps", "* write-bit: broken in 3 steps",
        "Claimed: a page pinned for writing (FOLL_PIN) is the page its process has mapped there",
        "litmus coherence-write-pin-sharing", "/* A */ if (!fork()) pause(); /* the child is C */",
        "fork_copies: copies_pinned_exclusive -> never", "A shortest test that the two answer differently:",
    ):
        assert words in flat
    # Of what was explored only it says no more than that.
    assert "proved" not in flat.lower().partition("what this is:")[0]
    page = Path("pages/index.html").read_text(encoding="utf-8").partition("</section>")[0]
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in page.split("<tr>")[2:]]
    assert rows[0][:6] == ["coherence-write-pin", "exhausted", "violated", "4", "steps", "worse"]
    assert rows[1][:8] == ["write-bit", "violated", "3", "steps", "violated", "3", "steps", "the"]
    for words in ("my.py:SHARING against v7.2: 1 worse, 1 the same", "copies_pinned_exclusive -&gt; never",
                  "A shortest test that tells them apart"):
        assert words in page


@pytest.mark.usefixtures("patches")
def test_what_is_not_decided_has_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["-k", "my.py:SHARING", "--against", "v7.2", "-i", "uffd-wp", "--engine", "bmc", "--depth", "1"]
    assert main(["check", *given, "--tell", "0", "--json"]) == 3
    (told,) = json.loads(capsys.readouterr().out)["against"]
    (row,) = told["cells"]
    assert (row["judged"], row["old"], row["new"]) == (UNDECIDED, "BOUNDED", "BOUNDED")
    assert "a larger --depth" in row["next"]
    assert told["test"] is None
    assert [(c["decision"], c["answer"]) for c in told["changes"]] == [("fork_copies", OTHERWISE)]


@pytest.mark.usefixtures("patches")
@pytest.mark.parametrize("given", [
    ["--mail"], ["--against", "v7.2"], ["-k", "v7.2", "--against", "v7.2"],
    ["-k", "my.py:DEAD@ksm", "--against", "v7.2"],
    ["-k", "my.py:DEAD", "--against", "v7.2", "--mail", "--json"], ["-k", "my.py:DEAD", "--against", "v0"],
])
def test_options_that_do_not_go_together_are_refused_in_one_line(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *given]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_definition_is_written_where_users_read_it() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "against.md").read_text(encoding="utf-8").split())
    said = textwrap.dedent(str(against.__doc__)).split("\n\n")[1]
    for judgement in (WORSE, BETTER, SAME, UNDECIDED):
        assert f"| {judgement} |" in page
    assert "may be worse" in said
    assert "may be worse" in page
