"""Litmus tests as a directory for a kernel's tools/testing/selftests: one program that prints KTAP, and its Makefile.

It builds there and anywhere else: the program needs nothing of a tree, and its Makefile takes `lib.mk` where that is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from model.logic import ModelError
from proofs.errors import NotObservable
from proofs.hardware import reproducer
from proofs.hardware.conform import shown
from proofs.litmus.execution import Outcome
from proofs.litmus.language import Litmus
from proofs.words import wrapped

PROGRAM = "cow_pins"
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "pagemap": ("CONFIG_PROC_PAGE_MONITOR",),
    "userfaultfd_with": ("CONFIG_USERFAULTFD",),
    "huge_page": ("CONFIG_TRANSPARENT_HUGEPAGE",),
    "page_out": ("CONFIG_SWAP", "CONFIG_MEMCG"),
    "clear_soft_dirty": ("CONFIG_MEM_SOFT_DIRTY",),
    "take_into_ring": ("CONFIG_IO_URING",),
    "merge": ("CONFIG_KSM",),
    "migrate": ("CONFIG_NUMA", "CONFIG_MIGRATION"),
    "split_folio": ("CONFIG_DEBUG_FS",),
    "file_page": ("CONFIG_TMPFS",),
    "hugetlb_page": ("CONFIG_HUGETLBFS",),
}
"""Sections of replay/runtime.c to the options without which a kernel has not got what they use (Kconfig of 7.2)."""
_COLUMNS = 76
_SECONDS = 10
"""For each test, as the time limit of all goes by their number: most take less than one."""
_MAKEFILE = f"""\
# SPDX-License-Identifier: MIT
CFLAGS += -O1 -Wall -Wextra
TEST_GEN_PROGS := {PROGRAM}

ifneq ($(wildcard ../lib.mk),)
include ../lib.mk
else
all: $(TEST_GEN_PROGS)

run_tests: all
\t./{PROGRAM}

clean:
\t$(RM) $(TEST_GEN_PROGS)

.PHONY: all run_tests clean
endif
"""


@dataclass(frozen=True)
class Selftest:
    """The files, name to text; how many tests there are; and those that no program can do, name to reason."""

    files: Mapping[str, str]
    tests: int
    left_out: Mapping[str, str]


def selftest(
    tests: Sequence[Litmus], kernel: str, predicted: Mapping[str, Iterable[Outcome]], version: str
) -> Selftest:
    """The directory for these tests. `predicted`: test's name to the outcomes that the model's `kernel` has for it; one
    that is not there is left out.

    `version`: of this program, for the header. Raises ModelError if no program can do any of them.
    """
    done: list[Litmus] = []
    left: dict[str, str] = {}
    options: dict[str, list[str]] = {}
    for test in tests:
        try:
            sections = reproducer.sections_of(test)
        except NotObservable as error:
            left[test.name] = str(error)
            continue
        if test.name not in predicted:
            left[test.name] = "the model was not asked"
            continue
        done.append(test)
        for section in sections:
            for option in OPTIONS.get(section, ()):
                options.setdefault(option, []).append(test.name)
    if not done:
        raise ModelError(f"no program can do any of these tests: {'; '.join(f'{n}: {why}' for n, why in left.items())}")
    expected = {test.name: sorted(map(shown, predicted[test.name])) for test in done}
    text = reproducer.program(done, predicted, _head(expected, kernel, version, left), "tap")
    files = {
        f"{PROGRAM}.c": text, "Makefile": _MAKEFILE, ".gitignore": f"/{PROGRAM}\n", "config": _config(options),
        "settings": f"timeout={max(45, _SECONDS * len(done))}\n",
    }
    return Selftest(files, len(done), left)


def _head(expected: Mapping[str, Sequence[str]], kernel: str, version: str, left: Mapping[str, str]) -> str:
    paragraphs = [
        "What a kernel does with copy-on-write pages that somebody holds a reference to: litmus tests, "
        f"{len(expected)} of them, written by cow-proofs {version}.",
        f"A test passes if it ends as {kernel} of the model may: its condition true or false, and the operations with "
        "these numbers refused, or blocked by userfaultfd. Each step is a comment before the test's line.",
        "It needs root. A test is skipped where it cannot be done or seen: the options in config make more of them "
        "observable, and reclaim needs a swap device. With --allow-host-settings it also changes, and puts back, "
        "settings of the machine (KSM, huge pages), and uses a memory cgroup of its own; without it tests that need "
        "this are skipped. So are those with references that no system call takes: they need the driver gup_probe of "
        "cow-proofs, for test machines only.",
    ]
    lines = [line for each in paragraphs for line in [*wrapped(each, _COLUMNS), ""]]
    lines += [line for name, ends in expected.items() for line in _item(name, " or ".join(ends))]
    if left:
        lines += ["", "Not in here:", *(line for name, why in left.items() for line in _item(name, why))]
    body = "\n".join(f" * {line}".rstrip() for line in lines)
    return f"// SPDX-License-Identifier: MIT\n/*\n{body}\n */"


def _item(name: str, text: str) -> list[str]:
    return wrapped(f"{name}: {text}", _COLUMNS, then="  ")


def _config(options: Mapping[str, Sequence[str]]) -> str:
    """A fragment of a .config, each option with the tests that can be seen only with it."""
    lines = []
    for option, names in options.items():
        said = textwrap.shorten(", ".join(names), _COLUMNS, placeholder=" ...")
        lines += [f"# for {len(names)}: {said}", f"{option}=y"]
    return "\n".join(lines) + "\n" if lines else ""
