"""The search for inductive invariants: candidates from samples, counterexamples to induction.

May import, beside model, invariants and the files above: derive, explore.
"""
