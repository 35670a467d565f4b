"""What decisions and rules of a user's own must be: terms of the language over the model's state functions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from z3 import Const, is_const

from model import locks
from model.blame import blamed, close, defect, nearest
from model.callers import WORDS
from model.decisions import Decisions, Predicate
from model.features import FEATURES, SPLIT
from model.logic import ModelError, RuleTemplate, Staged, Step, Update, kind_text, short
from model.operations import ACCESSES, ARGUMENTS, Operation
from model.state import BY_NAME, CONSTANTS, SORTS, UNUSED, Bool, Frame, Page, Pin, Proc, Slot, Value


def arguments_of(decision: str) -> tuple[tuple[str, Any], ...]:
    """(name, sort, or bool for a Python one) of what a predicate takes."""
    p, v, f = ("p", Proc), ("v", Page), ("f", Frame)
    if decision in ("swap_in_reuse", "swap_in_frees"):
        return p, v, ("s", Slot), f
    if decision == "read_gup":
        return p, v, f, ("foll_pin", bool)
    if decision == "read_gup_nonanon":
        return p, v, f, ("foll_pin", bool), ("longterm", bool)
    return p, v, f


def check_decision(decision: str, decide: Predicate, place: str) -> None:
    """Raises ModelError if the predicate that stands at `place` gives no truth value of the model's."""
    arguments = arguments_of(decision)
    names = ", ".join(n for n, _ in arguments)
    choices = [(False, True) if sort is bool else (Const(name, sort),) for name, sort in arguments]
    for given in itertools.product(*choices):
        # Called with other names too, it must speak of what it is given, not of what is called so.
        for asked in (given, [g if isinstance(g, bool) else Const(f"{g}!", g.sort()) for g in given]):
            with blamed(f"{decision}({names})", place):
                term = decide(*asked)
            if wrong := defect(term, Bool, BY_NAME, [*CONSTANTS, *(g for g in asked if not isinstance(g, bool))]):
                raise ModelError(f"{place}: {decision}({names}) {wrong}")


def check_rule(kernel: Decisions, template: RuleTemplate, place: str) -> None:
    """Raises ModelError if the rule of a user's that stands at `place` gives no step of the language."""
    what = f"rule {template.name}"
    _check_names(template, f"{place}: {what}")
    given = [*CONSTANTS, *(p.term for p in template.params)]
    with blamed(what, place):
        said = template.body(kernel, *(p.term for p in template.params))
    if said is not None and not isinstance(said, Step | Staged):
        raise ModelError(f"{place}: {what} gives a Step, or None for a kernel that lacks it, not {kind_text(said)}")
    with blamed(what, place):
        step = said.whole() if isinstance(said, Staged) else said
        updates = step.flat_updates() if step else ()
        locks.asks(kernel, template.lock, {p.name: p.term for p in template.params})
    for term in step.guard if step else ():
        if wrong := defect(term, Bool, BY_NAME, given):
            raise ModelError(f"{place}: {what}: a condition {wrong}")
    if updates and template.kind != "step":
        raise ModelError(f"{place}: {what}: a {template.kind} changes nothing, so it has no updates")
    for update in updates:
        if not isinstance(update, Update):
            raise ModelError(f"{place}: {what}: an update is {kind_text(update)}; say put(...) or each(...)")
        if wrong := _wrong_cells(update):
            raise ModelError(f"{place}: {what}: the update of {update.function} {wrong}")
        for term, sort in ((update.value, update.function.range), (update.when, Bool),
                           *zip(update.index, update.function.domain, strict=True)):
            if wrong := defect(term, sort, BY_NAME, [*given, *update.over]):
                raise ModelError(f"{place}: {what}: the update of {update.function} {wrong}")


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
"""What a parameter may be called. Bound variables have a `'` in their names, and what proofs make up has a `!`."""
_RULE_NAME = re.compile(r"[\w-]+", re.ASCII)


def _check_names(template: RuleTemplate, what: str) -> None:
    if not _RULE_NAME.fullmatch(template.name):
        raise ModelError(f"{what}: its name is letters, digits, _ and -: what follows a dot is a sub-step")
    taken = {*BY_NAME, *(c.decl().name() for c in CONSTANTS)}
    for param in template.params:
        if param.sort not in SORTS:
            raise ModelError(f"{what}: the parameter {param.name} is of a sort that the model has not")
        if param.over is not None:
            # Nothing proves what it says of where its values matter.
            raise ModelError(f"{what}: the parameter {param.name} is a function, as only the model's own may be")
        if param.fresh and param.sort not in UNUSED:
            raise ModelError(f"{what}: the parameter {param.name} is fresh, as no {param.sort.name().lower()} can be")
        if not isinstance(param.name, str) or not _NAME.fullmatch(param.name):
            raise ModelError(f"{what}: a parameter's name is letters, digits and _, not {param.name!r}")
        if param.name in taken:
            raise ModelError(f"{what}: the name {param.name!r} is taken; call the parameter something else")
        taken.add(param.name)


def _wrong_cells(update: Update) -> str:
    """What is wrong with the cells that an update is of: its function, or what it is for every value of."""
    if BY_NAME.get(update.function.name) is not update.function:
        return "is of no state function of the model"
    for x in update.over:
        # The names that `each` gives: no others are free in all engines, and a rule's text tells their sorts by them.
        name = rf"{x.sort().name().lower()}'[0-9]+"
        if x.sort() not in SORTS or not is_const(x) or not re.fullmatch(name, x.decl().name()):
            return f"is for every {short(x)}; say each(...)"
    return ""


_SINCE = re.compile(r"\d{1,3}\.\d{1,3}", re.ASCII)
_WORD = re.compile(r"[a-z][a-z0-9_-]*")
_NAMED = {Proc: "p, q or child", Page: "v or w", Pin: "k", Value: "n"}
"""Of which sorts a test says every element, and what a rule calls those."""


def check_operation(
    kernel: str, operation: Operation, rules: Mapping[str, RuleTemplate], others: Iterable[Operation]
) -> None:
    """Raises ModelError if a kernel of a user's cannot declare the operation, beside the `others` before it. `rules`:
    all that the kernel may have, by name."""
    what = f"kernel {kernel}: operation {short(operation.word)}"
    _check_fields(operation, what)
    if operation.word in WORDS:
        raise ModelError(f"{what}: there is one of that name already; say another word")
    if any((o.word, o.flags) == (operation.word, operation.flags) for o in others):
        raise ModelError(f"{what}: it is declared twice")
    if any(o.word == operation.word and o.arguments != operation.arguments for o in others):
        raise ModelError(f"{what}: with other flags it takes other arguments")
    for word in (operation.word, *operation.flags):
        if not _WORD.fullmatch(word) or word == "fast":
            raise ModelError(f"{what}: words are small letters, digits, _ and -, not {word!r}")
    if operation.quick or operation.forms or not operation.goal:
        raise ModelError(f"{what}: it has a goal, a tuple of names of rules, and neither quick nor forms")
    for name in operation.rules:
        if name not in rules:
            raise ModelError(f"{what}: no rule {name!r}{close(name, rules)}")
        if lacking := rules[name].features - operation.features:
            raise ModelError(f"{what}: rule {name} needs features=frozenset({sorted(lacking)})")
    refusing = {*operation.refusal, *operation.whole_refusal, *operation.at_once_refusal}
    for name in operation.rules:
        # What a refusal does as a goal would be done; what a step does as a refusal would be none.
        if rules[name].kind == "block":
            raise ModelError(f"{what}: rule {name} is a block, which no operation names")
        if (rules[name].kind == "refusal") is not (name in refusing):
            raise ModelError(f"{what}: rule {name} is a {rules[name].kind}, and "
                             f"{'is' if name in refusing else 'is not'} named as a refusal")
    _check_arguments(operation, [rules[name] for name in operation.rules], what)
    slot = operation.on_slot or any(p.name == "s" for name in operation.goal for p in rules[name].params)
    if operation.then and not (slot or operation.transient):
        raise ModelError(f"{what}: then is done on the slot s of its goal, or with transient=True on the reference k, "
                         "and it has neither; say two operations")


def _check_fields(operation: Operation, what: str) -> None:
    """Raises ModelError if a field is of another kind, or says what there is not."""
    for field in fields(operation):
        value, kind = getattr(operation, field.name), str(field.type).partition("[")[0]
        if type(value).__name__ != kind or (
            kind != "str" and isinstance(value, Collection) and field.name != "forms"
            and not all(isinstance(each, str) for each in value)
        ):
            wanted = {"tuple": "a tuple of texts, as ('v',)", "frozenset": "a frozenset of texts", "str": "a text"}
            raise ModelError(f"{what}: {field.name} is {wanted.get(kind, 'True or False')}, not {short(value)}")
    known = {"actor": ("process", "kernel", "either"), "access": ACCESSES, "beside": ("", *SPLIT)}
    for name, values in known.items():
        if (value := getattr(operation, name)) not in values:
            raise ModelError(f"{what}: no {name} {value!r}{nearest(value, filter(None, values))}")
    for feature in operation.features:
        if feature not in FEATURES:
            raise ModelError(f"{what}: no feature {feature!r}{nearest(feature, FEATURES)}")
    if operation.since and not _SINCE.fullmatch(operation.since):
        raise ModelError(f"{what}: since is a release of Linux, as '6.1', not {operation.since!r}")


def _check_arguments(operation: Operation, rules: Sequence[RuleTemplate], what: str) -> None:
    """Raises ModelError if what the test names is not what the rules take."""
    for argument in operation.arguments:
        if argument not in ("v", "w", "n", "k", "child"):
            raise ModelError(f"{what}: arguments are v and w (pages), n (a value), k (a reference), child (a process), "
                             f"not {argument!r}")
        if not any(p.name == argument for template in rules for p in template.params):
            raise ModelError(f"{what}: none of its rules has a parameter {argument}")
    if (operation.on_frame or operation.on_slot) and "v" not in operation.arguments:
        raise ModelError(f"{what}: on_frame and on_slot are of the page v, which it does not name")
    if operation.reference and not any(p.name == "k" and p.fresh for r in rules for p in r.params):
        raise ModelError(f"{what}: a reference is a rule's parameter k, Param('k', Pin, fresh=True)")
    given = {*operation.arguments, "p", "q", *["k"] * (operation.reference or operation.transient)}
    for template in rules:
        for param in template.params:
            if param.name in ARGUMENTS and param.sort != ARGUMENTS[param.name]:
                raise ModelError(f"{what}: rule {template.name} has a {param.sort} {param.name}, where an operation "
                                 f"gives a {ARGUMENTS[param.name]}")
            if param.sort in _NAMED and param.name not in given and not param.fresh:
                raise ModelError(f"{what}: rule {template.name} takes a {param.sort} {param.name} that no argument "
                                 f"names; arguments are called {_NAMED[param.sort]}")
