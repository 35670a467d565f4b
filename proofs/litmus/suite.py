"""Litmus tests by name: those of the suite and cow.c's cases, or files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from model.blame import close
from model.operations import Operation
from proofs.data import SUITE
from proofs.errors import LitmusError
from proofs.litmus import cow_selftest, parser
from proofs.litmus.language import Litmus
from proofs.naming.specs import find_kernel


def known(suite: Path = SUITE) -> list[str]:
    """The names of the suite's tests, and of cow.c's cases."""
    return [*sorted(path.stem for path in suite.glob("*.litmus")), *(name for name, _ in cow_selftest.tests())]


def matches(word: str, names: Iterable[str]) -> list[str]:
    """The name that the word is, or those that begin with it; F1 does not begin F10."""
    names = list(names)
    if word in names:
        return [word]
    return [
        name for name in names
        if word and name.startswith(word) and not (word[-1].isdigit() and name[len(word)].isdigit())
    ]


def named(word: str, names: Iterable[str]) -> list[str]:
    """As `matches`. Raises LitmusError if there is none."""
    names = list(names)
    found = matches(word, names)
    if not found:
        hint = close(word, names)
        raise LitmusError(f"{word} is no file, nor a test of the suite, nor how the name of one begins{hint}")
    return found


def text_of(name: str, suite: Path = SUITE) -> str:
    """The text of the test of that name. Raises LitmusError as `parser.read_text` does."""
    cases = dict(cow_selftest.tests())
    return cases[name] if name in cases else parser.read_text(suite / f"{name}.litmus")


def digest_on(test: Litmus, kernel: str) -> str:
    """`Litmus.digest` of the test as the model's kernel of that name has it. Raises ModelError if there is none, and
    the test has callers' words."""
    calls = any(statement.operation.forms for statement in test.statements)
    return (test.on(find_kernel(kernel)) if calls else test).digest


def is_file(word: str) -> bool:
    """Whether the word names a file rather than a test: there is one, or it is written as one."""
    return Path(word).exists() or word.endswith(".litmus") or "/" in word


def read_tests(words: Iterable[str], suite: Path = SUITE, own: Iterable[Operation] = ()) -> list[Litmus]:
    """The tests in those files, and those of the suite with such names, each once; `own` as for `parser.parse`.

    Raises LitmusError for a word that is neither, and as `parser.parse_all` does.
    """
    found: list[tuple[Path, str]] = []
    for word in words:
        if is_file(word):
            found.append((Path(word), parser.read_text(Path(word))))
        else:
            found += [(suite / f"{name}.litmus", text_of(name, suite)) for name in named(word, known(suite))]
    return parser.parse_all(found, own)
