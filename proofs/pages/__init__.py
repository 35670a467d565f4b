"""Pages for a browser: the report of a check, the explorer, the reference of facts.

May import, beside model, invariants and the files above: derive, naming, traces, certify, litmus, check, compare, data,
hardware.
"""
