"""Machine code for exploration: the grounded circuit over blocks of states, around the visited set of `table`.

The code is the same for all models: it follows numbers, into which steps and claims were written (`bytecode`). Only how
states are renamed is compiled for each symmetry.

512 states at a time are transposed to bit planes, vectors of eight 64-bit words, so that a vector holds one bit of
each state; guards, claims and the next-state bits that depend on the state are evaluated there. The successors of eight
states are then made at once: a bit that becomes a constant is masked in, one that is another bit is shifted there, and
only for what is left the planes select.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from proofs.derive.ground import GroundedStep, Grounder
from proofs.derive.symmetry import Symmetry
from proofs.explore import bytecode, compress
from proofs.explore.code import Assembly, cpu_features
from proofs.explore.layout import V
from proofs.explore.planes import least, planes, present, transpose
from proofs.explore.renaming import bits_that_matter, representatives
from proofs.explore.table import rehash, settle, settle_entered

DECLARATIONS = f"""
declare i64 @llvm.cttz.i64(i64, i1)
declare i64 @llvm.ctpop.i64(i64)
declare {V} @llvm.ctpop.v8i64({V})
declare i64 @llvm.vector.reduce.add.v8i64({V})
declare i64 @llvm.vector.reduce.or.v8i64({V})
declare {V} @llvm.smax.v8i64({V}, {V})
declare {V} @llvm.smin.v8i64({V}, {V})
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
declare {V} @llvm.fshl.v8i64({V}, {V}, {V})
"""


def assembly(
    grounder: Grounder, steps: Sequence[GroundedStep], claims: Sequence[int], premises: Sequence[int],
    symmetry: Symmetry | None,
) -> Assembly:
    """What explores packed states; `claims` and `premises` are circuit literals."""
    words = state_words(grounder)
    matter = frozenset[int]() if symmetry is None else bits_that_matter(symmetry)
    settling = settle(words, 1, lambda state: state if symmetry is None else representatives(symmetry, state))
    return Assembly(
        _shared(words, compress.best(cpu_features())), f"{DECLARATIONS}{settling}",
        bytecode.written_steps(grounder, words, steps, matter),
        bytecode.written_claims(grounder.circuit, words, claims, premises),
    )


@functools.cache
def _shared(words: int, way: str) -> str:
    """LLVM IR of what depends on the size of a state only; `way` as in `Compress`."""
    functions = [
        transpose(), planes(words), present(), least(words), settle(words, 0, lambda state: state), rehash(words),
        settle_entered(), bytecode.gates(), bytecode.expand(words, way), bytecode.inspect(),
    ]
    declared = [DECLARATIONS, compress.DECLARATIONS[way], "declare void @settle1(ptr)"]
    return "\n".join([*declared, *map(str, functions)])


def state_words(grounder: Grounder) -> int:
    """64-bit words of a packed state and its marker."""
    return grounder.bits // 64 + 1
