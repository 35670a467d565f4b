"""The tables of verdicts: which claims are checked how, and with which evidence.

May import, beside model, invariants and the files above: derive, naming, traces, explore, bmc, induct, certify, data.
"""
