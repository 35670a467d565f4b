"""The files with which one starts a kernel or an invariant of one's own."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence

from model import state
from model.blame import nearest
from model.decisions import Decisions
from model.kernels import FURTHER, KERNELS
from model.logic import ModelError, StateFunction
from proofs.naming.specs import variable_of
from proofs.traces.text import first_sentence

_TEMPLATE = '''"""A kernel of my own: {base} with one decision changed.

Which promises does it keep? What does a user see of the change?

    python -m proofs check -k {file}:{name} -k {base} --watch
    python -m proofs diff {base} {file}:{name}
"""

{imports}

{language}
#
{words}


def reuse(p: Term, v: Term, f: Term) -> Term:
    """May a write fault of process p at page v take frame f for its own, or must it copy?"""
    # Say your rule here. As it stands: as {base} does, and also a maybe-pinned page that nobody else maps.
    return Or({variable}.reuse(p, v, f), And(mapped_only_by(p, v, f), maybe_pinned(f)))


# A rule that {base} does not have. To use it, take the marks away and say own_rules=(drop_write,) below;
# for litmus tests, `A: drop-write x`, also own_operations=(Operation("drop-write", ("v",), goal=("drop-write",)),).
#
# from model import Operation, Param, Step, put, rule
#
# @rule([Param("p", Proc), Param("v", Page)], "my_function", "where it comes from")
# def drop_write(kernel: Kernel, p: Term, v: Term) -> Step:
#     """The write bit goes away, for no reason."""
#     return Step([live(p, v), pte_present(p, v), pte_write(p, v)], put(pte_write(p, v), False))


{name}: Kernel = {variable}.but(
    "{lower}", "{base}, and a maybe-pinned page that nobody else maps is reused",
    # {{"reuse": "a commit, or a mail"}},  where it comes from, which is told beside it
    reuse=reuse,
)

# The decisions, with what {base} decides. Name any of them in `but` above; what is not named stays.
#
{decisions}
'''

_INVARIANT = '''"""A promise of my own: which kernels keep it?

    python -m proofs check -i {file}:{name} --watch
    python -m proofs check -i {file}:{name} -k v5.9 --report report
"""

{imports}

{language}
#
{words}


def when(k: Term, s: Term) -> Term:
    """Of which elements is something promised? A check in which this never holds says so: it would be worth nothing."""
    return And(pin_live(k), pin_foll_pin(k), cached(s))


def then(k: Term, s: Term) -> Term:
    """What is promised of them."""
    return slot_frame(s) != pin_frame(k)


{name} = Invariant(
    "{lower}", "a pinned page is not in the swap cache", "who promises it",
    (Pin, Slot),  # for all references k and all slots s: of which sorts `when` and `then` take elements
    when, then,
)
'''

_LANGUAGE = """\
# These are terms, not Python values: for `and`, `or`, `not` and `if` write And, Or, Not and If; `==` is as it looks.
# "For all" and "there is" are forall(Proc, Page, lambda p, v: ...) and exists(...).
# What can be said of processes p and q, pages v and w, frames f, references k and slots s, all imported above:"""
_LOGIC = ("And", "Frame", "If", "Implies", "Not", "Or", "Page", "Pin", "Proc", "Slot", "Term", "exists", "forall")


_WORDS = (
    state.maps, state.mapped, state.mapped_only_by, state.sub_pages_mapped_once, state.page_swapped,
    state.in_swap_cache, state.referenced, state.unreferenced, state.maybe_pinned, state.pinned_in, state.live,
)
_OBSERVED = (state.resolves_to, state.swaps, state.frame_free)


def _told(names: str, meaning: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(f"{names}: {meaning}", 116, subsequent_indent="    ")]


def _cells() -> Iterator[tuple[StateFunction, str]]:
    """The state functions that are no sub-step's, nor of huge pages alone, each with its arguments."""
    letters = {"Proc": "p", "Page": "v", "Frame": "f", "Pin": "k", "Slot": "s"}
    for function in state.FUNCTIONS:
        sorts = [sort.name() for sort in function.domain]
        if function not in state.STEPS and letters.keys() >= set(sorts):
            yield function, ", ".join(letters[sort] for sort in sorts)


def words(more: bool = False) -> list[str]:
    """What can be said of a state, each with its meaning; and `more` that only promises are made of."""
    lines = []
    for word in (*_WORDS, *(_OBSERVED if more else ())):
        said = f"{word.__name__}({', '.join(inspect.signature(word).parameters)})"
        lines += _told(said, first_sentence(word.__doc__ or "").removeprefix(f"{said}: "))
    for function, arguments in _cells():
        lines += _told(f"{function.name}({arguments})", function.about)
    return lines


def _imports(more: bool, *others: str) -> str:
    """The imports of a file to start from: the language, and each of `words`."""
    told = {word.__name__ for word in (*_WORDS, *(_OBSERVED if more else ()))} | {f.name for f, _ in _cells()}
    return "\n".join([
        *(["from invariants import Invariant"] if more else []),
        *_import_of("model", sorted({*_LOGIC, *others})), *_import_of("model.state", sorted(told)),
    ])


def _import_of(module: str, names: Sequence[str]) -> list[str]:
    wrapped = textwrap.wrap(", ".join(names), 112, break_on_hyphens=False)
    return [f"from {module} import (", *(f"    {line}" for line in wrapped), ")"]


def meanings() -> list[tuple[str, str]]:
    """(decision, what it means) for each, from the docstring of Decisions."""
    text = inspect.getdoc(Decisions) or ""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        begun = re.match(r"(\w+(?:\([^)]*\))?(?:, \w+)*)(?:\s{2,}(\S.*))?$", line)
        if begun:
            found.append((begun[1], begun[2] or ""))
        elif line.startswith("    ") and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}".strip())
    return found


def starting_file(base: str, file: str, name: str) -> str:
    """The text of the file, for a kernel called `name` made from `base`. Raises ModelError if there is no such base."""
    kernels = (*KERNELS, *FURTHER)
    kernel = next((k for k in kernels if k.name == base), None)
    if kernel is None:
        raise ModelError(f"no kernel {base!r} to start from{nearest(base, [k.name for k in kernels])}")
    decided = kernel.decisions()
    lines = []
    for names, meaning in meanings():
        for decision in (n.strip() for n in re.sub(r"\([^)]*\)", "", names).split(",")):
            if decision in decided:
                lines += [f"# {decision} = {decided[decision]}"]
                lines += [f"#     {line}" for line in textwrap.wrap(meaning, 112)]
    return _TEMPLATE.format(
        file=file, name=name, base=base, variable=variable_of(kernel), lower=name.lower(),
        decisions="\n".join(lines), language=_LANGUAGE, words="\n".join(words()),
        imports=_imports(False, variable_of(kernel), "Kernel"),
    )


def starting_invariant(file: str, name: str) -> str:
    """The text of a file with an invariant called `name`."""
    return _INVARIANT.format(
        file=file, name=name, lower=name.lower().replace("_", "-"), language=_LANGUAGE, words="\n".join(words(True)),
        imports=_imports(True),
    )
