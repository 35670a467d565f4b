"""Small kernels of our own, in C that we wrote: enough of a tree that a decision can be read from it."""

from __future__ import annotations

from pathlib import Path

from proofs.source.csource import Tree

MAKEFILE = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION =\n"


def tree(folder: Path, memory: str = "", config: dict[str, bool] | None = None, **files: str) -> Tree:
    """A tree with that mm/memory.c; `files`: others, their names with `__` for `/` and `_dot_` for a dot."""
    texts = {"Makefile": MAKEFILE, "mm/memory.c": memory}
    texts |= {name.replace("__", "/").replace("_dot_", "."): text for name, text in files.items()}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Tree(folder, config)


def write_fault(body: str, more: str = "") -> str:
    """A mm/memory.c whose do_wp_page has that body; `page` is what the PTE maps."""
    return f"""{more}
static vm_fault_t do_wp_page(struct vm_fault *vmf)
{{
	struct page *page = vm_normal_page(vmf->vma, vmf->address, vmf->orig_pte);
{body}
}}
"""


REUSE = "wp_page_reuse(vmf);\n return 0;"
COPY = "return wp_page_copy(vmf);"
BY_COUNT = f"if (PageAnon(page) && page_count(page) == 1 && !PageKsm(page)) {{ {REUSE} }}\n{COPY}"
"""5.9's rule in a line: nobody else has the page, the swap cache included."""
