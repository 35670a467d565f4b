"""Kernels and invariants by name: the model's, and those in users' files, which are looked at first.

May import, beside model, invariants and the files above: derive.
"""
