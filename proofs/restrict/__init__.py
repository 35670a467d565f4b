"""Which sets of restrictions are enough.

May import, beside model, invariants and the files above: derive, naming, traces, induct, certify, check.
"""
