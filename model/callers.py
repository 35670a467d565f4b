"""Words for callers of get_user_pages, and the operation that each is, from which release on.

Sources: domain.md 1.3.1.
"""

from __future__ import annotations

from model.operations import OPERATIONS, PIN_SINCE, Operation, form_of

_OLDEST = "4.8"
_NO_FORCE = "6.2"
"""b40656aa7d55: ib_umem_get no longer asks for FOLL_FORCE | FOLL_WRITE where the device only reads."""
_DIO_PINS = "6.5"
"""a7e689dd1c06 (bio_iov_iter_get_pages), 1ccf164ec866 (fs/direct-io.c): iov_iter_extract_pages."""
_IO_URING = "5.1"


COMMITS = {("dio", _DIO_PINS): "a7e689dd1c06, 1ccf164ec866", ("rdma", _NO_FORCE): "b40656aa7d55"}
"""The commits that changed what a word is: word and release to ids, where they are known."""


def form(text: str) -> Operation:
    """The operation of a form."""
    word, *flags = text.split()
    found = form_of(word, frozenset(flags), OPERATIONS)
    assert found is not None, text
    return found


def _caller(
    word: str, *flags: str, forms: tuple[tuple[str, str], ...], then: tuple[str, ...] = (),
    arguments: tuple[str, ...] = ("v",), since: str = "",
) -> Operation:
    """A caller's word. `then`: what follows the reference, if the call puts it itself."""
    latest = form(forms[-1][1])
    return Operation(
        word, arguments, flags=frozenset(flags), then=then, transient=bool(then), reference=not then, since=since,
        access=latest.access, features=frozenset().union(*(form(text).features for _, text in forms)), forms=forms,
    )


CALLERS: tuple[Operation, ...] = (
    _caller("dio", forms=((_OLDEST, "get fast"), (_DIO_PINS, "pin fast"))),
    _caller("dio", "write", forms=((_OLDEST, "get write fast"), (_DIO_PINS, "pin write fast"))),
    _caller("rdma", forms=(
        (_OLDEST, "get write force"), (PIN_SINCE, "pin write longterm force"), (_NO_FORCE, "pin longterm fast"),
    )),
    _caller("rdma", "write", forms=((_OLDEST, "get write"), (PIN_SINCE, "pin write longterm fast"))),
    _caller("vfio", forms=((_OLDEST, "get"), (PIN_SINCE, "pin longterm"))),
    _caller("vfio", "write", forms=((_OLDEST, "get write"), (PIN_SINCE, "pin write longterm"))),
    _caller("io_uring", forms=((_IO_URING, "get write"), (PIN_SINCE, "pin write longterm")), since=_IO_URING),
    _caller(
        "process_vm_writev", forms=((_OLDEST, "get write"), (PIN_SINCE, "pin write")), then=("dma-store", "unpin"),
        arguments=("v", "n"),
    ),
)
WORDS = frozenset(operation.word for operation in (*OPERATIONS, *CALLERS))
"""The words that mean the same on every kernel: an operation of another one is a user's kernel's own."""
