"""Whose mistake it is: what is wrong with a term, and at which line of a user's file, in words that name the remedy."""

from __future__ import annotations

import builtins
import contextlib
import difflib
import functools
import inspect
import os
import re
import sys
import sysconfig
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import z3

from model.logic import OPERATORS, ModelError, Sort, StateFunction, Term, kind_text, short, sort_text


def nearest(wanted: str, names: Iterable[str], alike: float = 0.4) -> str:
    """`; did you mean X?` where one is so much alike, or the list of names."""
    known = list(names)
    there = f"; there {'is' if len(known) < 2 else 'are'} {', '.join(known) or 'none'}"
    return close(wanted, known, alike) or there


def close(wanted: str, names: Iterable[str], alike: float = 0.4) -> str:
    """`; did you mean X?` where one is so much alike, else empty."""
    found = difflib.get_close_matches(wanted, list(names), 1, alike)
    return f"; did you mean {found[0]}?" if found else ""


DEEPEST, LARGEST = 100, 100_000
"""How deep a term may be nested, and how many operators it may have written out: whatever reads it must walk it."""


_MADE_OF = "terms are made of And, Or, Not, Implies, Xor, If, == and quantifiers"


def defect(term: Any, sort: Sort, functions: Mapping[str, StateFunction], given: Iterable[Term]) -> str:
    """Why that is no term of the sort over those state functions and what is `given`; empty if it is one.

    `given`: constants, and functions that are parameters; what has but the name of one is another.
    """
    names = {g.name(): g for g in (g if isinstance(g, z3.FuncDeclRef) else g.decl() for g in given)}
    if not isinstance(term, z3.ExprRef) or term.sort() != sort:
        return f"gives {kind_text(term)}, where {sort_text(sort)} is wanted"
    if wrong := _unwieldy(term):
        return wrong
    sorts = {s.name() for f in functions.values() for s in (*f.domain, f.range)}
    seen: set[tuple[int, int]] = set()
    stack = [(term, 0)]
    while stack:
        t, bound = stack.pop()
        if (t.get_id(), bound) in seen:
            continue
        seen.add((t.get_id(), bound))
        if z3.is_var(t):
            # Any quantifier that is put around it later would bind it.
            if z3.get_var_index(t) >= bound:
                return "has a variable that no quantifier binds"
            continue
        if z3.is_quantifier(t):
            if t.is_lambda():
                return f"uses a lambda; {_MADE_OF}"
            for i in range(t.num_vars()):
                if t.var_sort(i).name() not in sorts or z3.is_bool(z3.Const("x", t.var_sort(i))):
                    wanted = ", ".join(sorted(sorts - {"Bool"}))
                    return f"quantifies over the sort {t.var_sort(i)}; there are {wanted}"
            stack.append((t.body(), bound + t.num_vars()))
            continue
        stack.extend((part, bound) for part in t.children())
        if t.sort().name() not in sorts:
            return f"is made with {short(t)}, of the sort {t.sort()}, which the model has not"
        kind, name = t.decl().kind(), t.decl().name()
        if kind == z3.Z3_OP_UNINTERPRETED:
            known = names.get(name) if name not in functions else functions[name].decl
            if known is not None and not known.eq(t.decl()):
                return f"speaks of another {name!r} than the model's, of the sort {t.sort()}"
            if known is None:
                return (f"speaks of {name!r}, which is neither a state function of the model nor given to it"
                        f"{close(name, [*functions, *names])}")
        elif kind not in OPERATORS:
            return f"uses the operator {name!r}; {_MADE_OF}"
    return ""


def _unwieldy(term: Term) -> str:
    """Why the term is too large to be worked with; empty if it is not."""
    known: dict[int, tuple[int, int]] = {}
    stack = [term]
    while stack:
        t = stack[-1]
        parts = [t.body()] if z3.is_quantifier(t) else t.children()
        if unknown := [part for part in parts if part.get_id() not in known]:
            stack += unknown
            continue
        stack.pop()
        measured = [known[part.get_id()] for part in parts]
        depth = 1 + max((deep for deep, _ in measured), default=0)
        size = 1 + sum(large for _, large in measured)
        if depth > DEEPEST:
            return f"is nested more than {DEEPEST} deep"
        if size > LARGEST:
            return f"is too large: written out it has more than {LARGEST:,} operators"
        known[t.get_id()] = depth, size
    return ""


def _own_folders() -> tuple[str, ...]:
    root = Path(__file__).parent.parent
    ours = [str(root / name) + os.sep for name in ("model", "invariants", "proofs")]
    paths = sysconfig.get_paths()
    return (*ours, *(paths[name] + os.sep for name in ("stdlib", "purelib", "platlib")), "<")


_OWN = _own_folders()


def is_ours(file: str) -> bool:
    """The file is of this program, of a library, or none at all: not one in which a user's mistake can be."""
    return file.startswith(_OWN)


def short_path(file: str) -> str:
    """The path, from the current folder if it is below that."""
    shown = os.path.relpath(file)
    return file if shown.startswith("..") else shown


def place(file: str, line: int) -> str:
    """`file.py:12`."""
    return f"{short_path(file)}:{line}"


_WRAPPED = 100
"""So many times over a function may be wrapped."""


def _codes_of(function: Any) -> Iterator[types.CodeType]:
    """Python's code that calling it runs, a wrapper's before that of what it wraps. Nothing of a user's is run."""
    for _ in range(_WRAPPED):
        if isinstance(function, functools.partial):
            function = function.func
            continue
        if isinstance(function, types.MethodType):
            function = function.__func__
        called = function if isinstance(function, types.FunctionType) else None
        inner = inspect.getattr_static(function, "__wrapped__", None)
        if called is None:
            called = inspect.getattr_static(type(function), "__call__", None)
        if isinstance(called, types.FunctionType):
            yield called.__code__
        if inner is None:
            return
        function = inner


def place_of(function: Any) -> str:
    """`file.py:12`, where a user's function stands, or the innermost that it wraps; empty where there is no such place.
    """
    places = [place(c.co_filename, c.co_firstlineno) for c in _codes_of(function) if not is_ours(c.co_filename)]
    return places[-1] if places else ""


def is_models(function: Any) -> bool:
    """The function is of the model itself, which needs no looking at: the very one that has its name there."""
    # Not by its file: what wraps a function of the model, or was made of a text, is a user's.
    name = function.__module__ if isinstance(function, types.FunctionType) else None
    module = sys.modules.get(name or "")
    return (
        module is not None and module.__name__.partition(".")[0] == "model"
        and vars(module).get(function.__name__) is function
    )


def place_in(error: BaseException) -> str:
    """`file.py:12`, the innermost line of a user's that an error went through; empty if there is none."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return place(error.filename, error.lineno)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_ours(f.filename) and f.lineno is not None]
    return place(frames[-1].filename, frames[-1].lineno or 0) if frames else ""


_MEANT = (
    ("cannot be cast to concrete Boolean", "a term has no truth value in Python; say And, Or, Not, If, not `and`, "
                                           "`or`, `not`, `if`"),
    ("sort mismatch", "it compares or combines terms of different sorts"),
    ("positional argument", "it is called with other arguments than it takes"),
)


def reason_of(error: BaseException) -> str:
    """What went wrong, on one line, in words of somebody who does not know z3's."""
    if isinstance(error, RecursionError):
        return "it calls itself without end"
    try:
        said = error.args[0] if error.args else ""
        text = " ".join((said.decode(errors="replace") if isinstance(said, bytes) else str(error)).split())
    except Exception:
        # A user's exception may fail even at saying what it is.
        return f"{type(error).__name__}, which cannot say more: its text fails too"
    if isinstance(error, ModelError):
        return text
    if isinstance(error, SyntaxError):
        return f"{error.msg}: {(error.text or '').strip()}"
    if isinstance(error, NameError) and error.name:
        return f"there is no {error.name!r} here{close(error.name, _visible(error), 0.7)}"
    if missing := re.match(r"cannot import name '(\w+)' from '([\w.]+)'", text):
        return f"{missing[2]} has no {missing[1]!r}{close(missing[1], dir(sys.modules.get(missing[2])), 0.6)}"
    for part, meaning in _MEANT:
        if part in text:
            return f"{meaning}: {text}" if part == "positional argument" else meaning
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _visible(error: BaseException) -> list[str]:
    """The names that the innermost line could have used."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return [] if trace is None else [*trace.tb_frame.f_locals, *trace.tb_frame.f_globals, *dir(builtins)]


@contextlib.contextmanager
def blamed(what: str, fallback: str = "") -> Iterator[None]:
    """Whatever a user's code raises meanwhile becomes a ModelError `file.py:12: WHAT: reason`.

    `fallback`: the place to name where the error went through no line of a user's. A term that Python takes for true or
    false is an error meanwhile: `a == b and c` would silently be c.
    """
    truth = z3.BoolRef.__bool__

    def no_truth(term: Term) -> bool:
        raise z3.Z3Exception("cannot be cast to concrete Boolean")

    z3.BoolRef.__bool__ = no_truth
    try:
        # What is printed meanwhile must not come among our results.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        parts = [place_in(error) or fallback, what, reason_of(error)]
        raise ModelError(": ".join(part for part in parts if part)) from error
    finally:
        z3.BoolRef.__bool__ = truth
