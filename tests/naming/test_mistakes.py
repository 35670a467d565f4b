"""What somebody may get wrong in a file of their own, and what they are told: the line, what is wrong, the remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model.logic import ModelError
from proofs.check.tables import verdicts
from proofs.naming.specs import find_invariants, system_of

HEAD = """\
import functools
class Mute(Exception):
    def __str__(self): raise RuntimeError
class Odd:
    def __getattr__(self, name): raise RuntimeError
    def __repr__(self): raise RuntimeError
    def __call__(self, *_): return Odd()
def deep(n, around, term): return functools.reduce(lambda t, _: around(t), range(n), term)
from z3 import BoolSort, BoolVal, Const, DeclareSort, Function, Int, IntSort, Lambda, Var
from invariants import Invariant
from model import *
from model.logic import StateFunction, Update
from model.state import *
"""
FIRST = HEAD.count("\n") + 1
"""The line of what follows."""


def told(tmp_path: Path, text: str, name: str) -> str:
    """What one is told of `name` in a file with that text, without the folder."""
    file = tmp_path / "mine.py"
    file.write_text(HEAD + text)
    with pytest.raises(ModelError) as raised:
        find_invariants(f"{file}:{name}") if name == "PROMISE" else system_of(f"{file}:{name}")
    message = str(raised.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/")


REUSE = [
    ("lambda p, v: BoolVal(True)", 0, "takes 2 positional arguments but 3 were given"),
    ("lambda p, v, f: f", 0, "gives a Frame term, f, where a Bool term is wanted"),
    ("lambda p, v, f: None", 0, "gives nothing, where a Bool term is wanted"),
    ("lambda p, v, f: True", 0, "gives 'True' (bool), where a Bool term is wanted"),
    ("lambda p, v, f: pte_write(f, v)", 0, "pte_write takes (Proc, Page), not (Frame, Page)"),
    ("lambda p, v, f: p == f", 0, "terms of different sorts"),
    ("lambda p, v, f: pte_write(p, v) and maybe_pinned(f)", 0, "say And, Or, Not, If"),
    ("lambda p, v, f: pte_frame(p, v) == f and maybe_pinned(f)", 0, "say And, Or, Not, If"),
    ("lambda p, v, f: not maybe_pinned(f)", 0, "say And, Or, Not, If"),
    ("lambda p, v, f: forall(IntSort(), lambda x: x == x)", 0, "quantifies over the sort Int; there are Block, Folio"),
    ("lambda p, v, f: exists(DeclareSort('Cpu'), lambda x: x == x)", 0, "quantifies over the sort Cpu"),
    ("lambda p, v, f: forall(p, lambda x: x == x)", 0, "quantifiers take sorts"),
    ("lambda p, v, f: forall(Proc, Page, lambda q: alive(q))", 0, "takes 1 positional argument but 2 were given"),
    ("lambda p, v, f: Function('pte_wrote', Proc, Page, BoolSort())(p, v)", 0, "did you mean pte_write?"),
    ("lambda p, v, f: Int('mapcount') == 1", 0, "of the sort Int, which the model has not"),
    ("lambda p, v, f: Int('n') > 1", 0, "uses the operator '>'"),
    ("lambda p, v, f: f.pinned", 0, "has no attribute 'pinned'"),
    ("lambda p, v, f: maybe_pined(f)", 0, "there is no 'maybe_pined' here; did you mean maybe_pinned?"),
    ("lambda p, v, f: MINE.reuse(p, v, f)", 0, "calls itself without end"),
    ("lambda p, v, f: 1 / 0", 0, "division by zero"),
    ("lambda p, v, f: exec('raise BaseException')", 0, "BaseException"),
    ("lambda p, v, f: exec('raise Mute')", 0, "Mute, which cannot say more"),
    ("lambda p, v, f: Odd()", 0, "gives '...' (Odd)"),
    ("Odd()", -7, "gives '...' (Odd)"),
    ("lambda p, v, f: deep(600, lambda t: Not(And(t, maybe_pinned(f))), mapped(f))", 0, "nested more than 100 deep"),
    ("lambda p, v, f: deep(60, lambda t: Or(And(t, mapped(f)), And(Not(t), pte_write(p, v))), maybe_pinned(f))", 0,
     "more than 100,000 operators"),
    ("True", 1, "reuse is a function (p, v, f), not True"),
    ("lambda p, v, f: mapped_only_by(p, v, Const('f', Frame))", 0, "speaks of 'f', which is neither a state function"),
    ("lambda p, v, f: maps(Var(0, Proc), v, f)", 0, "a variable that no quantifier binds"),
    ("lambda p, v, f: exists(Proc, lambda q: maps(Var(1, Proc), v, f))", 0, "a variable that no quantifier binds"),
    ("lambda p, v, f: Lambda([p], maps(p, v, f)) == Lambda([p], mapped(f))", 0, "uses a lambda"),
    ("functools.wraps(never)(lambda p, v, f: Function('n', Frame)() == f)", 0, "speaks of 'n'"),
]


@pytest.mark.parametrize(("decision", "line", "says"), REUSE)
def test_a_decision_that_makes_no_sense_is_told_at_its_line(
    decision: str, line: int, says: str, tmp_path: Path
) -> None:
    message = told(tmp_path, f"wrong = {decision}\nMINE = V5_9.but('mine', 'x', reuse=wrong)\n", "MINE")
    assert message.startswith(f"mine.py:{FIRST + line}: ")
    assert says in message


def test_a_function_that_python_does_not_show_is_looked_at_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "MINE = V5_9.but('mine', 'x', reuse=print)\n"
    assert told(tmp_path, text, "MINE") == "kernel mine: reuse(p, v, f) gives nothing, where a Bool term is wanted"
    text = "MINE = V5_9.but('mine', 'x', reuse=functools.partial(maps, Function('n', Proc)()))\n"
    assert "positional argument" in told(tmp_path, text, "MINE")
    # What a user's file prints is not among our results.
    assert capsys.readouterr().out == ""


FILES = [
    ("def reuse(p, v, f)\n    return f\n", 0, "expected ':'"),
    ("from model.state import mapped_by\n", 0, "model.state has no 'mapped_by'; did you mean mapped?"),
    ("import nothing_like_that\n", 0, "No module named 'nothing_like_that'"),
    ("x = 1\nraise SystemExit('no')\n", 1, "SystemExit: no"),
    ("own = StateFunction('own', (Proc,), Bool, '')\nMINE = V5_9.but('mine', 'x', reuse=lambda p, v, f: own(p))\n", 1,
     "speaks of 'own', which is neither a state function of the model nor given to it"),
    ("MINE = V5_9.but('mine', 'x', resue=never)\n", 0, "no decision 'resue'; did you mean reuse?"),
    ("MINE = V5_9.but('mine', 'x', mprotect_pinned='skipp')\n", 0, "one of clear, skip, refuse, not 'skipp'"),
    ("MINE = V5_9.but('mine', 'x', trylock='yes')\n", 0, "trylock is True or False, not 'yes'"),
    ("MINE = V5_9.but(reuse=never)\n", 0, "missing 2 required positional arguments"),
    ("MINE = V5_9.but('mine', ['x'])\n", 0, "about is a text"),
    ("MINE = V5_9.but('mine', 'x', lemmas=forall(Proc, alive))\n", 0, "lemmas is a tuple of closed formulas"),
    ("MINE = V5_9.but('mine', 'x', lemmas=(alive(Function('q', Proc)()),))\n", 0, "a lemma speaks of 'q'"),
    ("MINE = V5_9.but('mine', 'x',\n  swap_in_reuse=lambda p, v, f: mapped(f))\n", 1, "swap_in_reuse(p, v, s, f)"),
    ("MINE = V5_9.but('mine', 'x',\n  read_gup=lambda p, v, f, pin: f if pin else mapped(f))\n", 1, "a Frame term"),
    ("import functools\nMINE = V5_9.but('mine', 'x',\n  reuse=functools.partial(lambda n, p, v, f: f, 1))\n", 2,
     "a Frame term"),
    ("class Reuse:\n  def __call__(self, p, v, f): return f\nMINE = V5_9.but('mine', 'x', reuse=Reuse())\n", 1,
     "a Frame term"),
]


@pytest.mark.parametrize(("text", "line", "says"), FILES)
def test_a_file_that_makes_no_sense_is_told_at_its_line(
    text: str, line: int | None, says: str, tmp_path: Path
) -> None:
    message = told(tmp_path, text, "MINE")
    assert message.startswith("mine.py: " if line is None else f"mine.py:{FIRST + line}: ")
    assert says in message


RULES = [
    ("return [pte_present(p, v)]", "gives a Step, or None for a kernel that lacks it"),
    ("return Step([pte_frame(p, v)], put(pte_write(p, v), False))", "a condition gives a Frame term"),
    ("return Step(live(p, v), put(pte_write(p, v), False))", "Step takes a list of conditions"),
    ("return Step([live(p, v)], [pte_write(p, v)])", "a Bool term, pte_write(p, v); say put(...) or each(...)"),
    ("return Step([live(p, v)], put(And(pte_write(p, v)), False))", "put takes a cell of a state function"),
    ("return Step([live(p, v)], put(pte_frame(p, v), False))", "pte_frame takes a Frame term, not 'False' (bool)"),
    ("return Step([live(p, v)], put(pte_write(p, p), False))", "pte_write takes (Proc, Page), not (Proc, Proc)"),
    ("return Step([mapped(forgotten)])", "there is no 'forgotten' here"),
    ("return Step([live(p, v)], [Update('alive', (p,), BoolVal(False))])", "takes a state function"),
    ("return Step([live(p, v)], [Update(alive, p, BoolVal(False))])", "index is a tuple of terms, not a Proc term, p"),
    ("return Step([live(p, v)], [Update(alive, (p, v), BoolVal(False))])", "it takes (Proc), not 2 terms"),
    ("return Step([live(p, v)], [Update(alive, (p,), False)])", "gives 'False' (bool), where a Bool term is wanted"),
    ("return Step([exists(Frame, lambda g: g == Function('n', Frame)())])", "a condition speaks of 'n'"),
    # An update for every value of a cell would be another one in each engine, and one for every x is kept under a text
    # that does not tell the sort of x.
    ("return Step([], [Update(alive, (p,), BoolVal(False), over=(pte_frame(p, v),))])", "every pte_frame(p, v)"),
    ("return Step([], [Update(alive, (p,), BoolVal(False), over=(p,))])", "for every p; say each"),
    ("return Step([], [Update(alive, (p,), BoolVal(False), over=(Const('x', Page),))])", "for every x; say each"),
    ("return Step([], [Update(alive, (p,), BoolVal(False), over=(Const(\"bool'0\", BoolSort()),))])",
     "for every bool'0; say each"),
    ("return Step([], [Update(StateFunction('own', (Proc,), BoolSort(), 'x'), (p,), BoolVal(True))])",
     "is of no state function of the model"),
    ("return Step([], [Update(StateFunction('alive', (Page,), BoolSort(), 'x'), (v,), BoolVal(True))])",
     "is of no state function of the model"),
]


@pytest.mark.parametrize(("body", "says"), RULES)
def test_a_rule_that_makes_no_sense_is_told_at_its_line(body: str, says: str, tmp_path: Path) -> None:
    text = f"""@rule([Param('p', Proc), Param('v', Page)], 'f', 's')
def mine(kernel, p, v):
    {body}
MINE = V5_9.but('mine', 'x', own_rules=(mine,))
"""
    message = told(tmp_path, text, "MINE")
    assert re.match(rf"mine.py:({FIRST}|{FIRST + 2}): rule mine", message)
    assert says in message


DECORATED = [
    ("[Param('p', Proc)], 'f', 's', kind='refusal'", "a refusal changes nothing, so it has no updates"),
    ("[Param('p', Proc)], 'f', 's', kind='stepp'", "kind is one of step, refusal, block, not 'stepp'"),
    ("[Param('p', Proc)], 'f', 's', features=['hugee']", "no feature 'hugee'; did you mean huge?"),
    ("[Param('p', Proc)], 'f', 's', lock='mmap'", "no lock 'mmap'; there are read, write"),
    ("[Param('p', Proc)], 'f', 's', lock='rmap'", "which the rule has not"),
    ("[Param('p', Proc)], 'f', 's', name=1", "name is a text, not '1' (int)"),
    ("[Param('p', Proc)], 'f', None", "source is a text, not nothing"),
    ("[Param('p', Proc)], 'f', 's', name='a\\nb'", "name is a text"),
    ("[Param('p', 'Proc')], 'f', 's'", "Param takes a name and a sort"),
    ("[Param(1, Proc)], 'f', 's'", "Param takes a name and a sort"),
    ("[Param('p', Proc)], 'f', 's', name='fork'", "there is a rule 'fork' already"),
    ("['p'], 'f', 's'", "parameters are made by Param"),
    # What follows a dot is a sub-step, and what was looked for was the rule of the name before it.
    ("[Param('p', Proc)], 'f', 's', name='my.rule'", "its name is letters, digits, _ and -"),
    ("[Param('p', IntSort())], 'f', 's'", "the parameter p is of a sort that the model has not"),
    ("[Param('p', BoolSort())], 'f', 's'", "the parameter p is of a sort that the model has not"),
    ("[Param('p', Page, fresh=True)], 'f', 's'", "fresh, as no page can be"),
    ("[Param('p', Frame, over=Page)], 'f', 's'", "a function, as only the model's own may be"),
    ("[Param('p', Proc), Param('v', Page)], 'f', 's'", "takes 2 positional arguments but 3 were given"),
]


@pytest.mark.parametrize(("decorator", "says"), DECORATED)
def test_a_rule_of_which_something_else_is_wrong_says_so(decorator: str, says: str, tmp_path: Path) -> None:
    text = f"""@rule({decorator})
def mine(kernel, p):
    return Step([alive(p)], put(alive(p), False))
MINE = V5_9.but('mine', 'x', own_rules=(mine,))
"""
    message = told(tmp_path, text, "MINE")
    assert message.startswith("mine.py:")
    assert says in message


INVARIANTS = [
    ("(Pin,), lambda k, p: pin_live(k), pin_live", "when: it is called with other arguments than it takes"),
    ("(Pin,), pin_live, pin_frame", "then gives a Frame term"),
    ("(Pin,), pin_live, lambda k: pin_live(k) or pin_write(k)", "say And, Or, Not, If"),
    ("(Pin,), pin_live, True", "then is a function of a term for each sort, not True"),
    ("Pin, pin_live, pin_live", "sorts is a tuple of Proc, Page"),
    ("(Pin,), pin_live, pin_live, features=('hug',)", "no feature 'hug'; did you mean huge?"),
    ("(Pin,), pin_live, pin_live, features='huge'", "features is a tuple of names"),
    ("(Pin,), pin_live, lambda k: deep(600, lambda t: Not(And(t, pin_write(k))), pin_live(k))", "more than 100 deep"),
    ("(Pin,), lambda k: pin_live(Const('pin1', Pin)), pin_live", "when speaks of 'pin1', which is neither a state"),
    ("(Pin,), pin_live", "missing 1 required positional argument: 'then'"),
]


@pytest.mark.parametrize(("given", "says"), INVARIANTS)
def test_an_invariant_that_makes_no_sense_is_told_at_its_line(given: str, says: str, tmp_path: Path) -> None:
    message = told(tmp_path, f"PROMISE = Invariant('promise', 'x', 'me', {given})\n", "PROMISE")
    assert re.match(rf"mine.py(:{FIRST})?: ", message)
    assert says in message


def test_what_is_asked_of_a_file_that_it_has_not_got_is_told(tmp_path: Path) -> None:
    text = "MINE = V5_9.but('mine', 'x')\nOTHER = forall(Proc, alive)\n"
    assert told(tmp_path, text, "MIEN").endswith("has no kernel 'MIEN'; did you mean MINE?")
    assert "OTHER is no kernel but a Bool term" in told(tmp_path, text, "OTHER")
    assert "nothing there is called NAME = Invariant(...)" in told(tmp_path, text, "PROMISE")


def test_an_invariant_that_can_say_nothing_of_a_kernel_says_what_it_would_need(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + """
ALONE = Invariant("a", "x", "me", (Frame, Frame), lambda f, g: f != g, lambda f, g: folio(f) != folio(g))
NOTHING = Invariant("n", "x", "me", (Frame,), lambda f: BoolVal(True), lambda f: f == f)
NEVER_NONE = Invariant("o", "x", "me", (Proc, Page), lambda p, v: vma(p, v), lambda p, v: Not(vma_none(p, v)))
""")
    with pytest.raises(ModelError, match=r"speaks of folio, which v5\.9 has only with the feature huge"):
        verdicts(["v5.9"], [f"{file}:ALONE"], out=tmp_path)
    # It was "proved", as no VMA is PROT_NONE where nobody can make it so.
    with pytest.raises(ModelError, match=r"speaks of vma_none, which v5\.9 has only with the feature prot-none"):
        verdicts(["v5.9"], [f"{file}:NEVER_NONE"], out=tmp_path)
    with pytest.raises(ModelError, match="speaks of no state function"):
        verdicts(["v5.9"], [f"{file}:NOTHING"], out=tmp_path)
