"""Traces, and every way to show one: JSON, text, graphs, pictures.

May import, beside model, invariants and the files above: derive.
"""
