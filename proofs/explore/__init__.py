"""Exhaustive search: all states of a scope, in machine code; one exploration over several machines.

May import, beside model, invariants and the files above: derive.
"""
