"""Files that come with the program: certificates, expected verdicts, the litmus suite, the reference of facts.

May import, beside model, invariants and the files above: nothing.
"""

from pathlib import Path

_HERE = Path(__file__).parent
CERTIFICATES = _HERE / "certificates"
"""Proofs of the default table's cells."""
FEATURE_CERTIFICATES = _HERE / "feature-certificates"
"""Proofs of cells of FULL, without obligations, which are made from the model when they are needed."""
EXPECTED = _HERE / "expected.toml"
"""What each kernel of the default table breaks, from the sources."""
FULL = _HERE / "full.toml"
"""The configurations that `check --full` adds to the default table."""
SUITE = _HERE / "litmus"
"""The litmus tests, with what is expected of each in expected.toml and cow.toml."""
DOMAIN = _HERE / "domain.md"
"""docs/domain.md: a symbolic link in the source tree, so that a wheel has the text."""
