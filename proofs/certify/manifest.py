"""Certificates of inductive proofs: what has to hold, as SMT-LIB text that any solver can read, and its verification.

A proof that an invariant holds for any number of processes, pages, frames, references and slots is a list of clauses,
closed universal formulas. It is one if they hold initially, every rule keeps them, and they imply the invariant. Each
of these obligations is one file whose only `check-sat` must be answered `unsat`; a manifest names the clauses and the
files. Whoever verifies makes every file again from the model and the manifest's clauses and compares, then asks the
solvers. Nothing here knows how clauses are found, so a defect there cannot hide here.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.logic import ModelError, System, Term
from proofs import json_text, store
from proofs.certify.obligations import CertifiedClause, clause_of, obligations, parsed
from proofs.naming.specs import TermDigests, features_of, file_in, file_name, find_invariant, find_kernel, system_of
from proofs.words import in_words

SCHEMA = 1


# Files

@dataclass(frozen=True)
class Checked:
    """What verification says of one manifest.

    `without`: rules that the kernel is taken to lack. `verdict`: `accepted` (every obligation is unsat, by every
    solver), `refused` (it is no proof, or not this one), or `unconfirmed` (it is the proof that it says it is, but a
    solver gave no answer). `reason`: one line unless accepted. `obligations`, `clauses`: how many.
    `seconds`: the time that solvers took for its obligations, though manifests share files.
    """

    kernel: str
    invariant: str
    without: tuple[str, ...]
    verdict: str
    reason: str
    obligations: int
    clauses: int
    seconds: float

    @property
    def accepted(self) -> bool:
        return self.verdict == "accepted"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def manifests_in(folder: Path) -> list[Path]:
    """The manifests of a folder of certificates, or of one where `check` writes, which has such a folder.

    Traces may lie beside them: where a proof failed, its counterexample to induction.
    """
    inner = folder / "certificates"
    found = (inner if inner.is_dir() else folder).glob("*/*.json")
    return sorted(path for path in found if not path.name.endswith(".trace.json"))


def copied(manifest: Path, folder: Path) -> Path:
    """The manifest's copy in another folder of certificates, its obligations copied too, or made where it lies without.

    Raises OSError, ValueError; ModelError if there are none to be made.
    """
    target = folder / manifest.parent.name / manifest.name
    old, new = _obligations_beside(manifest), folder / "obligations"
    for path in (target.parent, new):
        path.mkdir(parents=True, exist_ok=True)
    if old.is_dir():
        names = json_text.read(manifest)["obligations"].values()
        texts = {name: (old / f"{name}.smt2").read_text(encoding="utf-8") for name in names}
    else:
        texts = {_hash(text): text for text in _made(manifest)}
    for name, text in texts.items():
        store.write(new / f"{name}.smt2", text)
    store.write(target, manifest.read_text(encoding="utf-8"))
    return target


def _obligations_beside(manifest: Path) -> Path:
    """Where the obligations of a manifest lie; a folder without that one has manifests only."""
    return manifest.parent.parent / "obligations"


def _made(manifest: Path) -> list[str]:
    """The obligations of a manifest, from the model and its clauses. Raises ModelError if they cannot be made."""
    try:
        read = json_text.read(manifest)
        stated, system = find_invariant(str(read["invariant"])), system_of(str(read["kernel"]), tuple(read["without"]))
        return list(obligations(system, stated, _clauses(read["clauses"], system)).values())
    except (OSError, ValueError, KeyError, TypeError, _RefusedError) as error:
        raise ModelError(f"{manifest} is no certificate: {error}") from error


def manifest_path(folder: Path, spec: str, name: str, without: Sequence[str] = ()) -> Path:
    """Where in a folder the manifest for that kernel, less the rules in `without`, and invariant is."""
    less = "".join(f".without-{rule}" for rule in sorted(without))
    return folder / file_name(spec) / f"{file_name(name + less)}.json"


def unlike(manifest: Path, asked: TermDigests) -> str:
    """Why the manifest is no certificate of those terms, of the first claim; empty if it says that it is one.

    It is compared with what was asked, and not verified. Raises ModelError if there are no such terms.
    """
    name, _ = asked.claims[0]
    try:
        read = json_text.read(manifest)
        if (other := _is_of(read, asked)):
            return other
        if read["terms"] != asked.system:
            return f"it is for other terms than those of {asked.kernel}"
        claim = clause_of(find_invariant(name).formula, system_of(asked.kernel, asked.without))
        rows = [(tuple((str(x), str(sort)) for x, sort in row["variables"]), row["body"]) for row in read["clauses"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"the manifest cannot be read: {type(error).__name__}: {error}"
    return "" if (claim.variables, claim.body) in rows else f"it does not state what {name} does"


def spoiled(manifest: Path, asked: TermDigests) -> str:
    """Why a manifest that lies where that of those terms should is no certificate of them; empty if there is none, or
    it says itself that it is for other terms, as after a change of the kernel."""
    if not manifest.exists():
        return ""
    try:
        if json_text.read(manifest)["terms"] != asked.system:
            return ""
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return unlike(manifest, asked)


def _is_of(read: Mapping[str, Any], asked: TermDigests) -> str:
    """Why the manifest is of another kernel, other features, another invariant or other rules; empty if it is not."""
    name, _ = asked.claims[0]
    for what, said, wanted in (
        ("kernel", features_of(str(read["kernel"])), features_of(asked.kernel)),
        ("invariant", read["invariant"], name),
        ("without", sorted(map(str, read["without"])), sorted(asked.without)),
    ):
        if said != wanted:
            return f"it is a certificate of {what} {read[what]}, not {asked.kernel if what == 'kernel' else wanted}"
    return ""


def write(folder: Path, spec: str, name: str, clauses: Sequence[Term], without: Sequence[str] = ()) -> Path:
    """Write the proof that invariant `name` holds in the kernel `spec` (a name, or `file.py:NAME`); its manifest.

    `without`: rules that the kernel is taken to lack. Nothing is solved here. Equal obligations are one file, whichever
    kernel they are of. Raises ModelError as `obligations` does.
    """
    stated, system = find_invariant(name), system_of(spec, tuple(without))
    said = sorted({clause_of(c, system) for c in clauses})
    texts = obligations(system, stated, said)
    manifest = {
        "schema": SCHEMA, "kernel": spec, "invariant": name, "without": sorted(without),
        "statement": stated.statement, "terms": system.digest(),
        "clauses": [{"variables": c.variables, "body": c.body} for c in said],
        "obligations": {each: _hash(text) for each, text in texts.items()},
    }
    if file_in(spec) is not None:
        kernel = find_kernel(spec)
        # Of a kernel that somebody wrote, or that was read from C: what it is, and where each decision of it stands.
        manifest |= {"about": kernel.about, "cite": dict(kernel.cite)}
    (folder / "obligations").mkdir(parents=True, exist_ok=True)
    for text in texts.values():
        store.write(folder / "obligations" / f"{_hash(text)}.smt2", text)
    path = manifest_path(folder, spec, name, without)
    path.parent.mkdir(exist_ok=True)
    store.write(path, json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return path


class _RefusedError(Exception):
    """The manifest is no proof; the message is the reason."""


@dataclass(frozen=True)
class Opened:
    """A manifest that is what it says, its obligations (name to file), or why it is refused."""

    kernel: str
    invariant: str
    without: tuple[str, ...]
    files: Mapping[str, Path]
    clauses: int = 0
    refused: str = ""


def _expect(true: bool, reason: str) -> None:
    if not true:
        raise _RefusedError(reason)


def _clauses(rows: Any, system: System) -> list[CertifiedClause]:
    """The clauses of a manifest."""
    _expect(isinstance(rows, list), "the manifest's clauses are not a list")
    clauses = []
    for number, row in enumerate(rows, 1):
        try:
            _expect(set(row) == {"variables", "body"}, f"clause {number} has other keys than variables and body")
            variables = tuple((str(x), str(sort)) for x, sort in row["variables"])
            clauses.append(parsed(variables, str(row["body"]), system))
        except (ModelError, ValueError, TypeError) as error:
            raise _RefusedError(f"clause {number} {error}") from error
    return clauses


def formulas(manifest: Path, system: System) -> list[Term]:
    """The clauses of a manifest as terms. Raises ModelError if it cannot be read."""
    try:
        rows = json_text.read(manifest)["clauses"]
        return [c.formula(system) for c in _clauses(rows, system)]
    except (OSError, ValueError, KeyError, TypeError, _RefusedError) as error:
        raise ModelError(f"{manifest} is no certificate: {error}") from error


def is_manifest(path: Path) -> bool:
    """The file looks like a manifest, be it a good one or not."""
    try:
        return "obligations" in json_text.read(path)
    except (OSError, ValueError, TypeError):
        return False


def contents(manifest: Path) -> dict[str, Any]:
    """What the certificate says that it proves: `clauses` beside the claim in words and, in the same order, `formulas`
    as SMT-LIB text; `obligations`, each with its file's name. They are neither verified nor made again.

    Raises ModelError if it cannot be read or is for other terms.
    """
    try:
        read = json_text.read(manifest)
        kernel, less, hashes = str(read["kernel"]), tuple(map(str, read["without"])), dict(read["obligations"])
        stated, system = find_invariant(str(read["invariant"])), system_of(kernel, less)
        _expect(read["terms"] == system.digest(), f"it is for other terms than those of {kernel}")
        claim = clause_of(stated.formula, system)
        said = sorted((in_words(c.formula(system)), c.text) for c in _clauses(read["clauses"], system) if c != claim)
    except (OSError, ValueError, KeyError, TypeError, _RefusedError) as error:
        raise ModelError(f"{manifest} is no certificate: {error}") from error
    return {
        "schema": 1, "kernel": kernel, "without": less, "invariant": stated.name, "statement": stated.statement,
        "formula": claim.text, "clauses": [words for words, _ in said], "formulas": [text for _, text in said],
        "obligations": {name: f"{hashes[name]}.smt2" for name in sorted(hashes)},
        "about": str(read.get("about", "")), "cite": dict(read.get("cite", {})),
    }


def described(manifest: Path, as_json: bool = False) -> str:
    """`contents`, and that the obligations are those of the model: as text for a terminal, or as JSON.

    No solver is asked. Raises ModelError if it cannot be read or is not what it says.
    """
    with tempfile.TemporaryDirectory() as made:
        (opened,) = opened_together([(manifest, None)], Path(made))
    if opened.refused:
        raise ModelError(f"{manifest}: {opened.refused}")
    content = contents(manifest)
    if as_json:
        return json.dumps({**content, "obligations": [*content["obligations"]]}, indent=1)
    words = content["clauses"]
    less = f" without {', '.join(content['without'])}" if content["without"] else ""
    lines = [
        f"{content['invariant']} on {content['kernel']}{less}, "
        "for any number of processes, pages, frames, references and slots:", f"  {content['statement']}", "",
        *([f"The kernel: {content['about']}"] if content["about"] else []),
        *(f"  {decision}: {place}" for decision, place in content["cite"].items()),
        "It is inductive together with" if words else "It is inductive by itself.",
        *(f"  {number:2} {text}" for number, text in enumerate(words, 1)),
        "", f"So it says; of its {len(content['obligations'])} obligations none was asked here: "
        f"`python -m proofs verify {manifest}` asks the solvers.",
    ]
    return "\n".join(lines)


def opened_together(wanted: Sequence[tuple[Path, TermDigests | None]], made: Path) -> list[Opened]:
    """Manifests, each with what it has to be of, None for what it says itself. Raises ModelError as `Terms.compare`.

    Those of which nothing is asked, in a folder without obligations, as most that come along: theirs go to `made`.
    """
    for terms in dict.fromkeys(asked for _, asked in wanted if asked is not None):
        terms.compare()
    return [_opened(Path(os.path.abspath(path)), asked, made) for path, asked in wanted]


def _opened(path: Path, asked: TermDigests | None, made: Path) -> Opened:
    """The manifest, compared with what the model and its clauses give, and with what was asked."""
    kernel, name = path.parent.name, path.stem
    without: tuple[str, ...] = ()
    try:
        try:
            manifest = json_text.read(path)
            kernel, name = str(manifest["kernel"]), str(manifest["invariant"])
            schema, statement, terms = manifest["schema"], manifest["statement"], manifest["terms"]
            without = tuple(map(str, manifest["without"]))
            rows, hashes = manifest["clauses"], dict(manifest["obligations"])
            other = "" if asked is None else _is_of(manifest, asked)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _RefusedError(f"the manifest cannot be read: {type(error).__name__}: {error}") from error
        _expect(schema == SCHEMA, f"schema {schema!r}, not {SCHEMA}")
        _expect(not other, other)
        stated, system = find_invariant(name), system_of(kernel, without)
        _expect(statement == stated.statement, f"it states something else than {name} does")
        _expect(terms == system.digest(), f"certificate for other terms: {terms}, {kernel} has {system.digest()}")
        texts = obligations(system, stated, _clauses(rows, system))
        for each in sorted(hashes.keys() ^ texts.keys()):
            _expect(each in texts, f"obligation {each!r} is none of this proof")
            _expect(each in hashes, f"obligation {each!r} is missing")
        files = {}
        folder = _obligations_beside(path)
        bare = asked is None and not folder.is_dir()
        for each, text in texts.items():
            _expect(hashes[each] == _hash(text), f"obligation {each!r} is not what the model and the clauses give")
            files[each] = (made if bare else folder) / f"{_hash(text)}.smt2"
            if bare:
                store.write(files[each], text)
            _expect(files[each].is_file(), f"obligation {each!r}: there is no file {files[each].name}")
            _expect(files[each].read_bytes() == text.encode(), f"obligation {each!r}: {files[each].name} was changed")
        place = manifest_path(path.parent.parent, kernel, name, without)
        _expect(
            (path.parent.name, path.name) == (place.parent.name, place.name),
            f"it lies where another's certificate is looked for: it is of {kernel}, {name}, and belongs into "
            f"{place.parent.name}/{place.name}",
        )
    except (_RefusedError, ModelError, OSError) as error:
        return Opened(kernel, name, without, {}, refused=str(error))
    return Opened(kernel, name, without, files, len(rows))
