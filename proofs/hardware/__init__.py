"""Litmus tests as programs on real kernels, here or in a virtual machine.

May import, beside model, invariants and the files above: derive, naming, litmus, compare.
"""
