"""The file with which one starts a kernel of one's own."""

from __future__ import annotations

import inspect
import re
import textwrap

import model.kernels
from model import state
from model.blame import nearest
from model.kernels import FURTHER, KERNELS, Kernel
from model.logic import ModelError
from proofs.text import first_sentence

_TEMPLATE = '''"""A kernel of my own: {base} with one decision changed.

Which promises does it keep? What does a user see of the change?

    python -m proofs check -k {file}:{name} -k {base} --watch
    python -m proofs diff {base} {file}:{name}
"""

from z3 import And, Or

from model.kernels import {variable}, Kernel
from model.logic import Term
from model.state import mapped_only_by, maybe_pinned

# These are terms, not Python values: for `and`, `or` and `not` write And, Or and Not; `==` is as it looks. "For all"
# and "there is" are forall(Proc, Page, lambda p, v: ...) and exists(...) of model.logic.
# What can be said of a frame f that process p maps at page v, all in model.state:
#
{words}


def reuse(p: Term, v: Term, f: Term) -> Term:
    """May a write fault of process p at page v take frame f for its own, or must it copy?"""
    # Say your rule here. As it stands: as {base} does, and also a maybe-pinned page that nobody else maps.
    return Or({variable}.reuse(p, v, f), And(mapped_only_by(p, v, f), maybe_pinned(f)))


# A rule that {base} does not have. To use it, take the marks away and say own_rules=(drop_write,) below.
#
# from model.logic import Step, put, rule
# from model.fault import P, V
# from model.state import live, pte_present, pte_write
#
# @rule([P, V], "my_function", "where it comes from")
# def drop_write(kernel: Kernel, p: Term, v: Term) -> Step:
#     """The write bit goes away, for no reason."""
#     return Step([live(p, v), pte_present(p, v), pte_write(p, v)], put(pte_write(p, v), False))


{name}: Kernel = {variable}.but(
    "{lower}", "{base}, and a maybe-pinned page that nobody else maps is reused",
    {{"reuse": "where it comes from"}},
    reuse=reuse,
)

# The decisions, with what {base} decides. Name any of them in `but` above; what is not named stays.
#
{decisions}
'''


def variable_of(kernel: Kernel) -> str:
    """The name by which model.kernels has the kernel. Raises ModelError if it has none."""
    for name, value in vars(model.kernels).items():
        if value is kernel:
            return name
    raise ModelError(f"model.kernels has no name for {kernel.name}")


_WORDS = (
    state.maps, state.mapped, state.mapped_only_by, state.sub_pages_mapped_once, state.page_swapped,
    state.in_swap_cache, state.referenced, state.unreferenced, state.maybe_pinned, state.pinned_in, state.live,
)


def words() -> list[str]:
    """What predicates are mostly made of, each with its meaning."""
    lines = []
    for word in _WORDS:
        said = f"{word.__name__}({', '.join(inspect.signature(word).parameters)})"
        lines += textwrap.wrap(f"{said}: {first_sentence(word.__doc__ or '')}", 116, subsequent_indent="    ")
    return [f"# {line}" for line in lines]


def meanings() -> list[tuple[str, str]]:
    """(decision, what it means) for each, from the docstring of Kernel."""
    text = inspect.getdoc(Kernel) or ""
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
        decisions="\n".join(lines), words="\n".join(words()),
    )
