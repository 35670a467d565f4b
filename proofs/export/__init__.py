"""The model for other programs: SMT-LIB, VMT, BTOR2, AIGER, TLA+.

May import, beside model, invariants and the files above: derive, naming, traces, certify.
"""
