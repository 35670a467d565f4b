"""A kernel tree: its files parsed, its functions found, `#if` decided by a configuration.

No preprocessor runs and nothing is compiled: tree-sitter parses the text as it is. What the grammar does not know
(annotations such as `__releases(x)`) is blanked out first, so that lines and columns stay what they were.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from model.logic import ModelError

Node = Any
"""A node of tree-sitter's; its stubs differ between the versions that will do."""

FILES = (
    "mm/memory.c", "mm/huge_memory.c", "mm/hugetlb.c", "mm/gup.c", "mm/mprotect.c", "mm/mempolicy.c", "mm/swapfile.c",
    "mm/swap_state.c", "mm/vmscan.c", "mm/rmap.c", "mm/ksm.c", "mm/migrate.c", "mm/khugepaged.c", "mm/userfaultfd.c",
    "mm/madvise.c", "mm/mremap.c",
    "mm/mmap.c", "mm/pt_reclaim.c", "mm/internal.h", "mm/swap.h", "include/linux/mm.h", "include/linux/rmap.h",
    "include/linux/mm_inline.h", "include/linux/userfaultfd_k.h", "include/linux/page-flags.h", "include/linux/swap.h",
    "include/linux/huge_mm.h", "include/linux/mm_types.h", "include/linux/pgtable.h", "fs/proc/task_mmu.c",
    "fs/userfaultfd.c", "kernel/fork.c",
)
"""Where decisions of the model are taken: no other file is looked at. A version need not have all of them."""
NEEDED = ("Makefile", "mm/memory.c")
"""Without these a folder is no kernel tree."""

DEBIAN = {
    **dict.fromkeys((
        "SWAP", "NUMA_BALANCING", "MEMCG", "HAVE_ARCH_USERFAULTFD_WP", "USERFAULTFD", "ARCH_ENABLE_THP_MIGRATION",
        "HAVE_FAST_GUP", "HAVE_GUP_FAST", "MIGRATION", "KSM", "TRANSPARENT_HUGEPAGE", "THP_SWAP", "MEM_SOFT_DIRTY",
        "ARCH_HAS_PTE_SPECIAL", "HUGETLBFS", "HUGETLB_PAGE", "PTE_MARKER", "PTE_MARKER_UFFD_WP", "PER_VMA_LOCK",
        "MM_ID", "PAGE_MAPCOUNT", "PT_RECLAIM", "MMU", "SMP", "64BIT", "X86", "X86_64",
    ), True),
    **dict.fromkeys(("DEBUG_VM", "NO_PAGE_MAPCOUNT"), False),
}
"""What Debian's amd64 kernels are configured with, as far as the functions that are read ask (5.10 to 7.3)."""

_BLANKED = re.compile(
    rb"\b__(?:releases|acquires|must_hold|cond_acquires|printf|section)\s*\([^()]*\)"
    rb"|\b(?:__always_inline|__maybe_unused|__always_unused|__must_check|noinline_for_stack|noinline|__ref|__init|__user"
    rb"|__meminit|__sched|__cold|__pure|asmlinkage|__no_kmsan_checks|__weak|__latent_entropy|__rcu|__private|__read_mostly)\b"
)
_LOOPING = re.compile(rb"\b(?:list_|hlist_|hash_|mas_|xas_)?for_each_\w+(?=\s*\()")
_WRAPPING = ("preproc_if", "preproc_ifdef", "preproc_else", "preproc_elif", "preproc_elifdef")


class NotRead(Exception):
    """A decision, or a function, that cannot be read. The message is the reason, with file and line."""


def parser() -> Any:
    """A parser for C. Raises ModelError where tree-sitter is missing."""
    try:
        binding, grammar = (importlib.import_module(n) for n in ("tree_sitter", "tree_sitter_c"))
    except ImportError as error:
        raise ModelError(f"reading C needs {error.name}: pip install 'cow-proofs[source]'") from error
    return binding.Parser(binding.Language(grammar.language()))


def configuration(path: Path | None) -> dict[str, bool]:
    """CONFIG_ names, without the prefix, to whether they are set in a `.config`; Debian's without one.

    Raises ModelError if the file cannot be read.
    """
    if path is None:
        return dict(DEBIAN)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    said = {name: value != "n" for name, value in re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.M)}
    said |= dict.fromkeys(re.findall(r"^# CONFIG_(\w+) is not set$", text, re.M), False)
    if not said:
        raise ModelError(f"{path} is no kernel configuration: it sets no CONFIG_ name")
    return said


def text_of(node: Node) -> str:
    return str(node.text.decode("utf-8", "replace"))


def decided(node: Node, config: Mapping[str, bool]) -> bool | None:
    """What a condition of `#if` comes to; None if it depends on what the configuration does not say."""
    kind, text = node.type, text_of(node)
    if kind in ("identifier", "preproc_arg"):
        name = text.strip()
        return config.get(name.removeprefix("CONFIG_")) if name.startswith("CONFIG_") else None
    if kind == "number_literal":
        return text not in ("0", "0L")
    if kind in ("preproc_defined", "parenthesized_expression"):
        return decided(node.named_children[0], config)
    if kind in ("call_expression", "preproc_call_expression"):
        argument = node.child_by_field_name("arguments").named_children[0]
        return decided(argument, config) if text.startswith("IS_ENABLED") else None
    if kind == "unary_expression" and text.startswith("!"):
        value = decided(node.child_by_field_name("argument"), config)
        return None if value is None else not value
    if kind == "binary_expression":
        values = [decided(node.child_by_field_name(side), config) for side in ("left", "right")]
        operator = text_of(node.child_by_field_name("operator"))
        if operator in ("&&", "||"):
            strong = operator == "||"
            return strong if strong in values else None if None in values else not strong
    return None


def branches(node: Node, config: Mapping[str, bool]) -> list[tuple[bool | None, list[Node]]]:
    """The parts of an `#if`: whether each is compiled, None if that is not known, and its children."""
    found: list[tuple[bool | None, list[Node]]] = []
    taken: bool | None = False
    while node is not None:
        alternative = node.child_by_field_name("alternative")
        named = node.child_by_field_name("name") or node.child_by_field_name("condition")
        says: bool | None = True
        if named is not None:
            says = decided(named, config)
            if node.children[0].type in ("#ifndef", "#elifndef") and says is not None:
                says = not says
        skipped = {n.id for n in (alternative, named) if n is not None}
        body = [c for c in node.named_children if c.id not in skipped]
        found.append((False if taken else None if taken is None and says else says, body))
        taken = True if taken or says else None if says is None else taken
        node = alternative
    return found


@dataclass(frozen=True)
class CFunction:
    """The definition of a function: its name, file, parameters' names, and node."""

    name: str
    file: str
    parameters: tuple[str, ...]
    node: Node

    @property
    def line(self) -> int:
        return int(self.node.start_point[0]) + 1

    @property
    def lines(self) -> int:
        return int(self.node.end_point[0]) + 1 - int(self.node.start_point[0])

    @property
    def body(self) -> Node:
        return self.node.child_by_field_name("body")

    def place(self, node: Node | None = None) -> str:
        """`mm/memory.c:1234`."""
        return f"{self.file}:{(node or self.node).start_point[0] + 1}"


def declared_name(node: Node) -> Node | None:
    """The identifier that a declarator declares."""
    while node is not None and node.type not in ("identifier", "field_identifier"):
        inner = node.child_by_field_name("declarator")
        node = inner if inner is not None else next(
            (c for c in node.named_children if c.type == "identifier" or c.type.endswith("_declarator")), None
        )
    return node


def _parameters(node: Node) -> tuple[str, ...]:
    while node is not None and node.type != "function_declarator":
        node = node.child_by_field_name("declarator")
    names = []
    for each in node.child_by_field_name("parameters").named_children if node is not None else ():
        if each.type == "parameter_declaration":
            name = declared_name(each.child_by_field_name("declarator"))
            names.append(text_of(name) if name is not None else "")
    return tuple(names)


class Tree:
    """A kernel's source. `replaced`: texts that stand for those of files, by name, as a patch makes them; None: it is
    not there.

    Raises ModelError if the folder is no kernel tree.
    """

    def __init__(
        self, root: Path, config: Mapping[str, bool] | None = None, replaced: Mapping[str, bytes | None] | None = None
    ) -> None:
        self.root, self.config, self.replaced = root, dict(DEBIAN if config is None else config), dict(replaced or {})
        missing = [name for name in NEEDED if not (root / name).is_file()]
        if missing:
            raise ModelError(f"{root} is no kernel tree: it has no {' and no '.join(missing)}")
        self._parser = parser()
        self._functions: dict[str, dict[str, list[tuple[bool | None, CFunction]]]] = {}
        self._texts: dict[str, bytes | None] = {}

    @cached_property
    def version(self) -> str:
        """As the Makefile says it, such as 6.1.192 or 7.3.0-rc7. It becomes part of files' names, and of their text."""
        said = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *([\w.+~-]{0,64})$",
                               (self.text("Makefile") or b"").decode("utf-8", "replace"), re.M | re.ASCII))
        said = {name: value for name, value in said.items()
                if name == "EXTRAVERSION" or re.fullmatch(r"[0-9]{0,5}", value)}
        if not said.get("VERSION") or not said.get("PATCHLEVEL"):
            raise ModelError(f"{self.root}/Makefile says no VERSION and PATCHLEVEL: it is no kernel's")
        return (f"{said['VERSION']}.{said['PATCHLEVEL']}.{said.get('SUBLEVEL', '0') or '0'}"
                f"{said.get('EXTRAVERSION', '')}")

    def text(self, file: str) -> bytes | None:
        """The text of a file; None if there is none. Raises ModelError for one that is there and cannot be read."""
        if file not in self._texts:
            try:
                self._texts[file] = self.replaced[file] if file in self.replaced else (self.root / file).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                self._texts[file] = None
            except OSError as error:
                raise ModelError(f"cannot read {self.root / file}: {error.strerror}") from error
        return self._texts[file]

    def digest(self) -> str:
        """Hash of the files that are read, as they are with what replaces them."""
        whole = hashlib.sha256()
        for file in ("Makefile", *FILES):
            whole.update(hashlib.sha256(self.text(file) or b"").digest())
        return whole.hexdigest()[:16]

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that is read, as it is with what replaces it."""
        texts = {file: self.text(file) for file in ("Makefile", *FILES)}
        return {file: hashlib.sha256(text).hexdigest() for file, text in texts.items() if text is not None}

    def configured(self) -> str:
        """Short hash of the configuration; empty for Debian's."""
        said = repr(sorted(self.config.items()))
        return "" if self.config == DEBIAN else hashlib.sha256(said.encode()).hexdigest()[:8]

    @cached_property
    def commit(self) -> str:
        """The commit that is checked out, with `+` if a file that is read is another one; "" if git knows none."""
        def git(*words: str) -> subprocess.CompletedProcess[str]:
            command = ["git", "-C", str(self.root), *words]
            return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if not (self.root / ".git").exists():
            return ""
        try:
            head = git("rev-parse", "HEAD")
            changed = self.replaced or git("diff", "--quiet", "HEAD", "--", "Makefile", *FILES).returncode
        except (OSError, subprocess.SubprocessError):
            return ""
        return "" if head.returncode else head.stdout.strip() + ("+" if changed else "")

    def functions(self, file: str) -> dict[str, list[tuple[bool | None, CFunction]]]:
        """Functions defined in a file, by name; each with whether the configuration compiles it."""
        if file not in self._functions:
            text = self.text(file)
            found: dict[str, list[tuple[bool | None, CFunction]]] = {}
            if text is not None:
                plain = _BLANKED.sub(lambda m: re.sub(rb"[^\n]", b" ", m[0]), text)
                # A macro that begins a loop is no statement of C; as long a loop stands for it.
                plain = _LOOPING.sub(lambda m: b"while".ljust(len(m[0])), plain)
                for compiled, node in _definitions(self._parser.parse(plain).root_node, self.config, True):
                    name = declared_name(node.child_by_field_name("declarator"))
                    if name is not None:
                        function = CFunction(text_of(name), file, _parameters(node), node)
                        found.setdefault(function.name, []).append((compiled, function))
            self._functions[file] = found
        return self._functions[file]

    def find(self, name: str, files: tuple[str, ...] = ()) -> CFunction | None:
        """The function of that name in those files, or any that is read; None if there is none.

        Raises NotRead if it is defined several times and the configuration does not say which counts.
        """
        word = re.compile(rb"\b" + name.encode() + rb"\s*\(")
        for file in files or FILES:
            text = self.text(file)
            if text is None or not word.search(text):
                continue
            found = [(c, f) for c, f in self.functions(file).get(name, []) if c is not False]
            sure = [f for c, f in found if c]
            if len(sure) == 1 or len(found) == 1:
                return sure[0] if sure else found[0][1]
            if found:
                places = ", ".join(f.place() for _, f in found)
                raise NotRead(f"{name} is defined at {places}; the configuration does not say which counts")
        return None

    def function(self, *names: str, files: tuple[str, ...] = ()) -> CFunction:
        """The first function there is of those names. Raises NotRead if there is none."""
        for name in names:
            if (found := self.find(name, files)) is not None:
                return found
        known = {n for file in files or FILES[:14] for n in self.functions(file)}
        near = difflib.get_close_matches(names[0], known, 1, 0.85)
        hint = f"; there is {near[0]}" if near else ""
        raise NotRead(f"no function {' or '.join(names)} in {', '.join(files) or 'the files that are read'}{hint}")

    def mentions(self, word: str, *files: str) -> str | None:
        """`FILE:LINE` where one of the files has the regular expression outside of comments; None if none has."""
        for file in files or FILES:
            text = self.text(file)
            if text is not None and (found := re.search(word.encode(), without_comments(text))):
                line = text.count(b"\n", 0, found.start()) + 1
                return f"{file}:{line}"
        return None


def without_comments(text: bytes) -> bytes:
    """The text with comments blanked out."""
    return re.sub(rb"/\*.*?\*/|//[^\n]*", lambda m: re.sub(rb"[^\n]", b" ", m[0]), text, flags=re.S)


def defect(node: Node) -> Node | None:
    """The first node below that is no C, None if all is."""
    if node.type == "ERROR" or node.is_missing:
        return node
    if not node.has_error:
        return None
    return next((found for c in node.children if (found := defect(c)) is not None), node)


def _definitions(
    node: Node, config: Mapping[str, bool], compiled: bool | None
) -> Iterator[tuple[bool | None, Node]]:
    """Function definitions outside of functions, each with whether the configuration compiles it."""
    for child in node.named_children:
        if child.type == "function_definition":
            yield compiled, child
        elif child.type in _WRAPPING:
            for says, body in branches(child, config):
                known = False if False in (says, compiled) else None if None in (says, compiled) else True
                for inner in body:
                    yield from _definitions(_Holder(inner), config, known)
        elif child.type in ("ERROR", "linkage_specification", "declaration_list", "compound_statement"):
            yield from _definitions(child, config, compiled)


class _Holder:
    """A node alone, as if it were the child of another one."""

    def __init__(self, node: Node) -> None:
        self.named_children = [node]
