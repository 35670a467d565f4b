"""Unrolled steps for a solver: bounded model checking and k-induction.

May import, beside model, invariants and the files above: derive.
"""
