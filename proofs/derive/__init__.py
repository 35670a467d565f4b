"""z3 terms made into something that can be executed: evaluation, circuits, the state after a step, symmetry.

May import, beside model, invariants and the files above: nothing.
"""
