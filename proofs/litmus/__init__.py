"""The litmus language, all executions of a test, and what every kernel answers.

May import, beside model, invariants and the files above: derive, naming, traces, data.
"""
