"""The command line as users and other programs meet it: verdicts, JSON, exit codes, one line for bad input."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import run, run_json
from places import ROOT
from samples import F1

from invariants import FURTHER as FURTHER_INVARIANTS
from invariants import INVARIANTS
from model.all_rules import ALL_RULES
from model.features import FEATURES
from model.kernels import FURTHER, KERNELS
from proofs.bmc.unrolling import Unrolling
from proofs.check import again, jobs, scopes, tables
from proofs.check.engines import second_opinion
from proofs.cli.main import main
from proofs.engine import Evidence
from proofs.errors import INCONCLUSIVE, EngineError

SMALL = "2,1,2,1,1"


def test_check_gives_a_verdict_with_its_evidence_for_every_cell_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, data = run_json(
        capsys, "check", "-k", "v5.9", "-k", "v5.19", "-i", "coherence", "--scope", SMALL, "-o", tmp_path
    )
    assert code == 1
    assert data["schema"] == 1
    assert data["scope"] == {"Proc": 2, "Page": 1, "Frame": 2, "Pin": 1, "Slot": 1, "Folio": 2, "Block": 1, "Value": 1}
    cells = {(c["kernel"], c["invariant"]): c for c in data["results"]}
    assert len(cells) == 8
    broken = cells["v5.9", "coherence-write-pin"]
    assert (broken["verdict"], broken["length"], broken["engine"]) == ("VIOLATED", 4, "explore+bmc")
    assert Path(broken["trace"]).is_file()
    assert Path(broken["trace"]).with_name("coherence-write-pin.svg").is_file()
    kept = cells["v5.19", "coherence-write-pin"]
    assert (kept["verdict"], kept["length"], kept["trace"], kept["vacuous"]) == ("PROVED", None, None, False)
    assert kept["engine"] == "explore+bmc+proof"
    assert kept["states"] > 1000
    assert kept["diameter"] > 5
    assert kept["clauses"] > 5
    assert json.loads(Path(kept["certificate"]).read_text())["invariant"] == "coherence-write-pin"


@pytest.mark.slow
def test_features_go_with_the_kernel_wherever_its_name_goes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, data = run_json(
        capsys, "check", "-k", "v5.9@migration", "--with", "numa", "--split", "swap-out", "-i", "coherence-write-pin",
        "-i", "mprotect", "--scope", SMALL, "-o", tmp_path, "--verbose",
    )
    broken, kept = data["results"]
    assert code == 1
    assert (broken["kernel"], broken["verdict"], broken["length"]) == ("v5.9@migration,numa,swap-out", "VIOLATED", 4)
    assert kept["verdict"] == "PROVED"
    code, out, _ = run(capsys, "show", broken["trace"])
    assert code == 0
    code, out, _ = run(capsys, "show", kept["certificate"])
    assert "v5.9@migration,numa,swap-out" in out
    code, out, _ = run(capsys, "verify", tmp_path)
    assert (code, out.startswith("1 accepted")) == (0, True)
    told = {name: r for r in data["reductions"] for name in r["invariants"]}
    assert told["mprotect"]["functions"] < told["coherence-write-pin"]["functions"]
    assert told["mprotect"]["rules"] < told["mprotect"]["of_rules"]
    assert {"large", "ksm", "stale"} <= set(told["mprotect"]["settled_without"])


def test_an_invariant_turns_its_own_features_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, data = run_json(
        capsys, "check", "-k", "v5.9", "-i", "tlb", "-i", "mprotect", "--scope", SMALL, "--engine", "explore",
        "-o", tmp_path,
    )
    cells = {c["invariant"]: c for c in data["results"]}
    assert code == 1
    assert (cells["tlb"]["kernel"], cells["tlb"]["verdict"]) == ("v5.9@tlb", "VIOLATED")
    assert (cells["mprotect"]["kernel"], cells["mprotect"]["verdict"]) == ("v5.9", "EXHAUSTED")
    code, out, _ = run(capsys, "show", cells["tlb"]["trace"])
    assert code == 0
    code, out, _ = run(
        capsys, "check", "-k", "v5.9", "-i", "tlb", "-i", "mprotect", "--scope", SMALL, "--engine", "explore",
        "-o", tmp_path, "--verbose",
    )
    assert "v5.9    V 3  E" in out
    assert "v5.9@tlb, tlb: the cone of influence has " in out


FULL = """
[[configuration]]
name = "one"
about = "pages migrate"
features = ["migration"]
scope = "2,1,2,1,1"
invariants = ["mprotect", "coherence-write-pin"]
kernels = ["v5.9", "v4.8"]
without = ["uffd-wp", "swap-out"]
proof_time = 0
inherits = true

[[configuration.violated]]
invariants = ["coherence-write-pin"]
kernels = ["v4.8"]
because = "F3"
"""


@pytest.mark.slow
@pytest.mark.parametrize("expected", [True, False])
def test_full_adds_the_tables_of_the_configurations(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: bool
) -> None:
    file = tmp_path / "full.toml"
    file.write_text(FULL if expected else FULL.replace('kernels = ["v4.8"]', "kernels = []"))
    real = scopes.configured
    monkeypatch.setattr(scopes, "configured", lambda: real(file))
    monkeypatch.setattr("proofs.cli.app.KERNELS", ())
    code, out, err = run(capsys, "check", "--full", "-o", tmp_path)
    assert code == (0 if expected else 1)
    assert "\none: pages migrate (features: migration)\n" in out
    assert "v5.9    E         V 4" in out
    assert ("v4.8@migration, coherence-write-pin: VIOLATED, but no violation was expected" in err) is not expected
    assert (tmp_path / "one" / "v4.8@migration" / "coherence-write-pin.trace.json").is_file()


@pytest.mark.slow
def test_the_configurations_that_come_along_name_what_there_is() -> None:
    configured = scopes.configured()
    assert len({t.name for t in configured}) == len(configured)
    for table in configured:
        cells = {(spec, i.name) for spec, _ in table.kernels for i in table.invariants}
        assert table.violated.keys() | table.holds.keys() <= cells, table.name
        assert all(table.violated.values())
        assert all(table.holds.values())


def test_a_configuration_can_expect_less_than_the_kernel_without_features_breaks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "full.toml"
    file.write_text(FULL + """
[[configuration.holds]]
invariants = ["coherence-write-pin"]
kernels = ["v5.9"]
because = "a test"
""")
    real = scopes.configured
    monkeypatch.setattr(scopes, "configured", lambda: real(file))
    monkeypatch.setattr("proofs.cli.app.KERNELS", ())
    code, _, err = run(capsys, "check", "--full", "-o", tmp_path)
    assert code == 1
    assert "v5.9@migration, coherence-write-pin: VIOLATED, but no violation was expected" in err


def test_without_proofs_the_scope_is_exhausted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, data = run_json(
        capsys, "check", "-k", "v5.19", "-i", "mprotect", "--engine", "both", "--scope", SMALL, "-o", tmp_path
    )
    cell = data["results"][0]
    assert (code, cell["verdict"], cell["clauses"], cell["certificate"]) == (0, "EXHAUSTED", None, None)


def test_k_induction_speaks_of_the_scope(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, data = run_json(
        capsys, "check", "-k", "v5.9", "-i", "mprotect", "-i", "write-bit", "--engine", "k-induction", "--scope", SMALL,
        "-o", tmp_path,
    )
    cells = {c["invariant"]: c for c in data["results"]}
    assert code == 1
    assert (cells["write-bit"]["verdict"], cells["write-bit"]["length"]) == ("VIOLATED", 3)
    assert (cells["mprotect"]["verdict"], cells["mprotect"]["note"]) == ("EXHAUSTED", "by 1-induction")


def test_a_proof_alone_needs_no_scope(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, data = run_json(capsys, "check", "-k", "v5.9", "-i", "mprotect", "--engine", "proof", "-o", tmp_path)
    cell = data["results"][0]
    assert (code, cell["verdict"], cell["engine"], cell["states"]) == (0, "PROVED", "proof", None)


def test_a_search_that_runs_out_of_time_leaves_the_cell_exhausted_and_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, data = run_json(
        capsys, "check", "-k", "v5.19", "-i", "isolation-mapping", "--scope", SMALL, "--fresh", "--proof-time", 0.01,
        "-o", tmp_path,
    )
    cell = data["results"][0]
    assert (code, cell["verdict"]) == (0, "EXHAUSTED")
    assert "no proof" in cell["note"]


@pytest.mark.slow
def test_a_tampered_certificate_is_not_believed_but_found_anew(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("check", "-k", "v5.9", "-i", "mprotect", "--engine", "proof", "-o", tmp_path)
    run(capsys, *arguments, "--fresh")
    manifest = tmp_path / "certificates" / "v5.9" / "mprotect.json"
    good = manifest.read_text()
    for bad in (good.replace("pte_write", "pte_dirty"), good[:-100]):
        manifest.write_text(bad)
        code, _, _ = run(capsys, "verify", tmp_path / "certificates")
        assert code == 1
        code, data = run_json(capsys, *arguments)
        assert (code, data["results"][0]["verdict"]) == (0, "PROVED")
        assert "the certificate that was kept is not taken" in data["results"][0]["note"]
        assert manifest.read_text() == good
    _, data = run_json(capsys, *arguments)
    assert not data["results"][0]["note"]


@pytest.mark.slow
def test_verify_accepts_what_check_wrote(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(capsys, "check", "-k", "v5.9", "-i", "soft-dirty", "--engine", "proof", "--fresh", "-o", tmp_path)
    # Where a proof failed, its counterexample to induction lies beside the manifests.
    (tmp_path / "certificates" / "v5.9" / "write-bit.cti.trace.json").write_text("{}")
    for folder in (tmp_path / "certificates", tmp_path):
        code, out, _ = run(capsys, "verify", folder)
        assert code == 0
        assert out.startswith("1 accepted, ")
    code, data = run_json(capsys, "verify", tmp_path / "certificates" / "v5.9" / "soft-dirty.json", "--solver", "z3")
    assert (code, data["results"][0]["verdict"]) == (0, "accepted")


def test_sub_steps_of_an_operation_that_is_not_there_are_said_to_split_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ("check", "-k", "v7.2", "-i", "write-bit", "--engine", "explore", "--scope", "1,1,2,1,1", "-o", tmp_path)
    idle = "v7.2@gup-fast,migrate: --split migrate splits nothing without --with migration"
    for options, said in (
        (("--split", "migrate,gup-fast"), [idle]),
        (("--with", "migration", "--split", "migrate"), []),
    ):
        code, _, err = run(capsys, *asked, *options)
        assert code == 1
        assert [line.removeprefix("proofs: ") for line in err.splitlines() if "splits nothing" in line] == said
    code, _, err = run(capsys, "explore", "-k", "v7.2", "--split", "migrate,gup-fast", "--scope", "1,1,2,1,1")
    assert (code, err) == (0, f"proofs: {idle}\n")


def test_each_engine_alone_finds_the_same_counterexample(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lengths = set()
    for engine in ("explore", "bmc", "both"):
        code, data = run_json(
            capsys, "check", "-k", "v5.7", "-i", "isolation-reference", "--engine", engine, "--scope", SMALL,
            "-o", tmp_path,
        )
        assert code == 1
        lengths.add(data["results"][0]["length"])
    assert lengths == {5}


def test_bmc_alone_is_bounded_and_inconclusive_where_it_finds_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, data = run_json(
        capsys, "check", "-k", "v5.9", "-i", "isolation-mapping", "--engine", "bmc", "--depth", 3, "-o", tmp_path
    )
    assert code == 3
    assert (data["results"][0]["verdict"], data["results"][0]["depth"]) == ("BOUNDED", 3)


def test_running_out_of_time_is_unknown_and_never_a_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, data = run_json(
        capsys, "check", "-k", "v5.19", "-i", "exclusive", "--engine", "explore", "--timeout", 0.001, "-o", tmp_path,
        "--scope", "medium",
    )
    cell = data["results"][0]
    assert (code, cell["verdict"]) == (3, "UNKNOWN")
    assert re.search("out of time.*(nothing was searched|no violation within)", cell["note"])


@pytest.mark.slow
def test_a_pin_alone_shows_each_way_in_which_v5_9_loses_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    # A write to what userfaultfd protects waits until the monitor un-protects it, and that takes W also by itself.
    ways = {"clear-soft-dirty", "mprotect-ro", "mprotect-other", "uffd-unwp", "swap-out"}
    every = {*ways, "uffd-wp"}
    for way in sorted(ways):
        others = [part for name in sorted(every - {way}) for part in ("--without", name)]
        code, data = run_json(
            capsys, "check", "-k", "v5.9", "-i", "coherence-write-pin", "--scope", SMALL, "-o", tmp_path, *others
        )
        steps = json.loads(Path(data["results"][0]["trace"]).read_text())["#meta"]["steps"]
        assert code == 1
        assert way in [s["rule"] for s in steps]
    excluded = [part for name in sorted(every) for part in ("--without", name)]
    code, data = run_json(
        capsys, "check", "-k", "v5.9", "-i", "coherence-write-pin", "--scope", SMALL, "-o", tmp_path, *excluded
    )
    assert (code, data["results"][0]["verdict"]) == (0, "PROVED")


def test_before_the_early_copy_fork_alone_loses_a_pinned_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ways = ("clear-soft-dirty", "mprotect-ro", "mprotect-other", "uffd-wp", "uffd-unwp", "swap-out")
    excluded = [p for name in ways for p in ("--without", name)]
    code, data = run_json(capsys, "check", "-k", "v5.9-rc4", "-i", "coherence-write-pin", "-o", tmp_path, *excluded)
    steps = json.loads(Path(data["results"][0]["trace"]).read_text())["#meta"]["steps"]
    assert code == 1
    assert [s["rule"] for s in steps] == ["anon-fault", "pin-write", "fork", "wp-copy"]


@pytest.mark.slow
def test_finished_results_are_not_computed_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ("check", "-k", "v5.14", "-i", "soft-dirty", "--scope", SMALL, "-o", tmp_path)
    _, first = run_json(capsys, *arguments)
    (kept,) = (tmp_path / "results").glob("*.json")
    written = kept.stat().st_mtime_ns
    _, second = run_json(capsys, *arguments)
    assert kept.stat().st_mtime_ns == written
    _, third = run_json(capsys, *arguments, "--fresh")
    assert kept.stat().st_mtime_ns > written
    assert first["results"][0]["states"] == second["results"][0]["states"] == third["results"][0]["states"]


@pytest.mark.parametrize("where", ["results", "checks"])
def test_a_kept_result_that_somebody_changed_is_not_believed(
    where: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("check", "-k", "v5.9", "-i", "write-bit", "--engine", "explore", "--scope", SMALL, "-o", tmp_path)
    code, _ = run_json(capsys, *arguments)
    assert code == 1
    (kept,) = (tmp_path / where).glob("*.json")
    told = json.loads(kept.read_text())
    cell = told["content"][0] if where == "results" else told["content"]["cells"][0][1]
    cell |= {"verdict": "EXHAUSTED", "steps": [], "length": None}
    kept.write_text(json.dumps(told))
    if where == "results":
        shutil.rmtree(tmp_path / "checks")
    code, second = run_json(capsys, *arguments)
    assert (code, second["results"][0]["verdict"]) == (1, "VIOLATED")


SAME = ("check", "-k", "v5.9", "-i", "write-bit", "-i", "mprotect", "--scope", SMALL)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where SAME was answered before, for tests to copy."""
    folder = tmp_path_factory.mktemp("once") / "out"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main([*SAME, "-o", str(folder), "--json"])
    (folder / "said.json").write_text(printed.getvalue().replace(str(folder), "FOLDER"))
    return folder


def copied(once: Path, tmp_path: Path) -> tuple[Path, Any]:
    """A folder of one's own with all that was kept, and what was said."""
    folder = shutil.copytree(once, tmp_path / "out")
    return folder, json.loads((folder / "said.json").read_text().replace("FOLDER", str(folder)))


def test_the_same_check_is_answered_without_doing_anything_again(
    once: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, first = copied(once, tmp_path)
    monkeypatch.setattr(tables, "work_of", lambda *_: pytest.fail("no work is to be made"))
    assert run_json(capsys, *SAME, "-o", folder) == (1, first)


@pytest.mark.parametrize(("lost", "text"), [
    ("v5.9/write-bit.svg", "changed"), ("certificates/v5.9/mprotect.json", "changed"),
    ("certificates/v5.9/mprotect.json", '{"obligations": []}'),
])
def test_a_check_whose_evidence_is_changed_is_done_again(
    lost: str, text: str, once: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, first = copied(once, tmp_path)
    whole = (folder / lost).read_text()
    (folder / lost).write_text(text)
    _, second = run_json(capsys, *SAME, "-o", folder)
    assert [c["verdict"] for c in second["results"]] == [c["verdict"] for c in first["results"]]
    assert (folder / lost).read_text() == whole


@pytest.mark.parametrize("change", ["program", "option", "fresh", "verify", "own"])
def test_a_check_that_is_not_the_same_is_done(
    change: str, once: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program, scope or wish; and a file of the user's, which may rest on what nobody sees."""
    if change == "own":
        mine = tmp_path / "mine.py"
        mine.write_text("from model.kernels import V5_9\nMINE = V5_9.but('mine', 'as it', {'all': ''})\n")
        arguments = ("check", "-k", f"{mine}:MINE", "-i", "write-bit", "--engine", "explore", "--scope", SMALL,
                     "-o", str(tmp_path))
        assert main(arguments) == 1
    else:
        arguments = (*SAME, "-o", str(copied(once, tmp_path)[0]))
    if change == "program":
        monkeypatch.setattr(again, "program_digest", lambda: "another")
    done: list[object] = []

    def decide(*asked: object, **how: object) -> None:
        done.append(asked)
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "decide", decide)
    more = {"option": ("--depth", "4"), "fresh": ("--fresh",), "verify": ("--verify",)}
    assert main([*arguments, *more.get(change, ())]) == INCONCLUSIVE
    assert len(done) == 1


@pytest.mark.slow
def test_kernels_with_equal_terms_share_one_result(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, data = run_json(
        capsys, "check", "-k", "v5.14", "-k", "v5.17", "-i", "mprotect", "--scope", SMALL, "-o", tmp_path
    )
    assert code == 0
    assert [c["kernel"] for c in data["results"]] == ["v5.14", "v5.17"]
    assert len(list((tmp_path / "results").glob("*.json"))) == 1


@pytest.mark.slow
def test_a_kernel_of_ones_own_in_ten_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from model.kernels import V5_9\n"
        "MINE = V5_9.but('mine', 'no write-protection of pinned pages', {'all': 'an idea'},\n"
        "    soft_dirty_pinned='skip', uffd_wp_pinned='refuse', mprotect_pinned='refuse',\n"
        "    mprotect_other_pinned='skip', uffd_unwp_pinned='skip', swap_out_pinned='refuse', unmap_pinned='refuse')\n"
    )
    code, data = run_json(
        capsys, "check", "-k", f"{mine}:MINE", "-i", "coherence-write-pin", "--scope", SMALL, "-o", tmp_path / "out"
    )
    assert (code, data["results"][0]["verdict"]) == (0, "PROVED")


def test_show_gives_a_trace_again_in_every_form(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, data = run_json(capsys, "check", "-k", "v5.7", "-i", "isolation-reference", "--scope", SMALL, "-o", tmp_path)
    trace = data["results"][0]["trace"]
    for form, sign in [("table", "Claimed:"), ("dot", "digraph"), ("svg", "<svg"), ("html", "<!DOCTYPE html>"),
                       ("mermaid", "flowchart"), ("graphml", "<graphml"), ("itf", '"#meta"')]:
        code, out, _ = run(capsys, "show", trace, "--format", form)
        assert code == 0
        assert sign in out
    code, shown = run_json(capsys, "show", trace)
    assert shown["#meta"]["claim"] == "isolation-reference"
    code, out, _ = run(capsys, "show", trace, "-f", "svg", "-o", tmp_path / "x.svg")
    assert (code, out) == (0, "")
    assert (tmp_path / "x.svg").read_text().startswith("<")


def test_litmus_answers_per_kernel(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "F1.litmus"
    file.write_text(F1)
    code, data = run_json(capsys, "litmus", file, "-o", tmp_path)
    answers = {r["kernel"]: r for r in data["results"]}
    assert (code, data["schema"], len(answers)) == (0, 1, len(KERNELS))
    assert answers["v5.7"]["answer"] == "Allowed"
    assert answers["v5.9"]["answer"] == "Forbidden"
    assert answers["v5.9"]["trace"] is None
    code, out, _ = run(capsys, "show", answers["v5.7"]["trace"])
    assert code == 0
    assert "vmsplice" in out
    code, out, _ = run(capsys, "litmus", file, "-k", "v5.7", "-o", tmp_path)
    assert "Allowed" in out


def test_a_broken_litmus_test_is_a_violation_also_on_a_kernel_of_ones_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    test, mine = tmp_path / "never.litmus", tmp_path / "mine.py"
    test.write_text(F1.replace("exists", "never"))
    mine.write_text("from model.kernels import V5_7\nMINE = V5_7.but('mine', 'the same')\n")
    code, data = run_json(capsys, "litmus", test, "-k", f"{mine}:MINE", "-o", tmp_path)
    assert (code, data["results"][0]["answer"]) == (1, "Broken")
    code, out, _ = run(capsys, "show", data["results"][0]["trace"])
    assert code == 0
    assert "vmsplice" in out


OWN_RULE = """\
from model import V5_9, Page, Param, Proc, Step, put, rule
from model.state import live, pte_present, pte_write
@rule([Param("p", Proc), Param("v", Page)], "f", "s")
def drop_write(kernel, p, v):
    return Step([live(p, v), pte_present(p, v)], put(pte_write(p, v), False))
MINE = V5_9.but("mine", "5.9 that write-protects now and then", own_rules=(drop_write,))
"""


def test_what_no_operation_does_leaves_litmus_and_diff_undecided(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A rule of one's own may act at any time: no answer that rests on all executions holds any more."""
    mine, test = tmp_path / "mine.py", tmp_path / "kept.litmus"
    mine.write_text(OWN_RULE)
    test.write_text("litmus kept\npage x\nA: write x 1\nA: r = pin x write\nA: write x 2\nnever r sees 1\n")
    assert run_json(capsys, "litmus", test, "-k", "v5.9", "-o", tmp_path)[0] == 0
    code, data = run_json(capsys, "litmus", test, "-k", f"{mine}:MINE", "-o", tmp_path)
    assert (code, data["results"][0]["answer"]) == (3, "UNKNOWN")
    assert data["results"][0]["reason"] == (
        "no operation takes this rule of mine: drop-write (docs/api.md, own_operations)")
    code, data = run_json(capsys, "diff", "v5.9", f"{mine}:MINE", "--depth", 2, "-o", tmp_path)
    assert (code, data["causes"], data["left_out"], data["same_terms"]) == (3, [], ["drop-write"], False)
    code, out, _ = run(capsys, "diff", "v5.9", f"{mine}:MINE", "--depth", 2, "-o", tmp_path)
    assert "undecided" in out
    assert "Left out, as no operation takes them: drop-write." in out


def test_list_names_every_kernel_invariant_and_rule_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    code, data = run_json(capsys, "list")
    assert code == 0
    assert [k["name"] for k in data["kernels"]] == [k.name for k in (*KERNELS, *FURTHER)]
    assert [i["name"] for i in data["invariants"]] == [i.name for i in (*INVARIANTS, *FURTHER_INVARIANTS)]
    rules = {r["name"]: r for r in data["rules"]}
    assert {"wp-copy", "fork", "unshare-copy", "swap-out"} <= rules.keys()
    assert (rules["fork"]["features"], rules["fork"]["split"]) == ([], ["fork", "tlb"])
    assert (rules["huge-wp-copy"]["features"], rules["huge-wp-copy"]["kernels"][0]) == (["huge"], "v5.7")
    assert "v5.8" not in rules["huge-wp-copy"]["kernels"]
    assert [f["name"] for f in data["features"]] == list(FEATURES)
    assert all(r["about"] and r["kernel_function"] and r["source"] for r in data["rules"])
    assert rules["fork"]["places"] == ["docs/domain.md#row-f", "docs/domain.md#sec-7-2", "docs/domain.md#s1",
                                       "docs/domain.md#fork_copies"]
    places = {k["name"]: k["places"] for k in data["kernels"]}["v5.12"]
    assert places["kernel"] == ["docs/domain.md#v5.12"]
    assert places["wp_flushes_uffd"] == ["docs/domain.md#wp_flushes_uffd", "https://git.kernel.org/linus/6ce64428d620"]
    code, out, _ = run(capsys, "list")
    assert re.search(r"\n  wp-copy  .* \[do_wp_page", out)
    assert "(with huge)" in out
    assert "  lazyfree          MADV_FREE\n" in out


def test_list_of_a_kernel_prints_its_decisions_and_its_own_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "list", "-k", "v5.19")
    assert code == 0
    assert "  reuse = exclusive_or_page_count\n" in out
    assert "  docs/domain.md#v5.19\n" in out
    assert "wp-copy" not in out
    (mine := tmp_path / "mine.py").write_text(OWN_RULE)
    assert "rule drop-write: " in run(capsys, "list", "-k", f"{mine}:MINE")[1]


def test_list_names_the_kernel_functions_and_the_rules_that_cite_each(capsys: pytest.CaptureFixture[str]) -> None:
    code, data = run_json(capsys, "list", "--functions")
    index = {f["name"]: {r["name"] for r in f["rules"]} for f in data["functions"]}
    assert code == 0
    assert {"wp-reuse", "wp-copy", "wp-copy-spurious", "unshare-copy"} <= index["do_wp_page"]
    assert index["copy_page_range"] == {"fork"}
    assert index["munmap"] == {"munmap", "munmap-nothing"}
    assert "uffd-wp" in index["UFFDIO_WRITEPROTECT"]
    # Neither flags and errors nor words of prose are functions.
    assert not {"FOLL_WRITE", "EFAULT", "VM_SOFTDIRTY", "read", "fault", "device", "refused", "newflags"} & index.keys()
    cited = set().union(*index.values())
    assert {t.name for t in ALL_RULES} == cited | set(data["without"])
    assert {"store", "load", "dma-store"} <= set(data["without"])
    for rule in (r for f in data["functions"] for r in f["rules"]):
        file, line = rule["place"].split(":")
        assert re.search(r"@rule\(|def ", (ROOT / file).read_text().splitlines()[int(line) - 1])
    code, out, _ = run(capsys, "list", "--functions", "copy_page_range", "-k", "v5.9")
    assert re.fullmatch(r"copy_page_range\n  fork +model/fork\.py:\d+ +dup_mmap, copy_page_range, copy_\w+\n", out)
    assert "unshare" not in run(capsys, "list", "--functions", "-k", "v5.7")[1]


def test_the_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert run(capsys, "--version") == (0, f"{project['name']} {project['version']}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "-k", "v59"], "did you mean v5.9?"),
        (["check", "-k", "v5.91"], "there was no Linux 5.91"),
        (["list", "--functions", "do_wp_pag"], "did you mean do_wp_page?"),
        (["list", "--functions", "x"], "list --functions has them all"),
        (["list", "do_wp_page"], "list --functions do_wp_page"),
        (["check", "-k", "no-such.py:MINE"], "no file no-such.py"),
        (["check", "-k", "{file}"], "say which kernel of the file"),
        (["check", "-k", "{file}:NONE"], "did you mean MINE?"),
        (["check", "-k", "{raises}:MINE"], "raises.py:2: ZeroDivisionError"),
        (["check", "-k", "{syntax}:MINE"], "syntax.py:1:"),
        (["check", "-k", "{predicate}:MINE"], "predicate.py:2"),
        (["check", "-k", "{decision}:MINE"], "no decision 'reusee'"),
        (["check", "-i", "coherense-get"], "did you mean coherence-get?"),
        (["check", "-k", "v5.7", "-i", "exclusive"], "exclusive says nothing about v5.7"),
        (["check", "--scope", "2,1,0,1,1"], "at least 1 frame"),
        (["check", "--scope", "2,1"], "five numbers"),
        (["check", "--scope", "2,1,3,1,1,2"], "seven P,V,F,K,S,D,B"),
        (["check", "--scope", "proces=3"], "no size 'proces'; did you mean proc"),
        (["check", "--scope", "procs=3,2"], "a size is NAME=NUMBER, as procs=3, not '2'"),
        (["check", "--scope", "procs=3,processes=2"], "processes is given twice"),
        (["check", "--scope", "frames=999"], "frames: a number from 0 to 256"),
        (["check", "--scope", "2,1,3,1,1,0,1"], "at least 1 folio"),
        (["check", "-k", "v5.9@huhe"], "no feature 'huhe'; did you mean huge?"),
        (["check", "--with", "huge,zreo"], "no feature 'zreo'; did you mean zero?"),
        (["check", "--with", "fork"], "no feature 'fork'"),
        (["check", "--split", "gup_fast"], "did you mean gup-fast?"),
        (["check", "--split", "huge"], "no sub-steps 'huge'"),
        (["check", "--full", "-k", "v5.9"], "--full is the whole table"),
        (["check", "--scope", "huge"], "default, medium, large"),
        (["check", "--scope", "²,1,1,1,1"], "five numbers"),
        (["check", "--scope", "٣,1,1,1,1"], "five numbers"),
        (["check", "--scope=--1,1,1,1,1"], "five numbers"),
        (["check", "--scope=-1,1,1,1,1"], "at least 1 proc"),
        (["check", "--scope", "99999999999999999999,1,1,1,1"], "at most 256 of a sort"),
        (["check", "--scope", f"{'9' * 5000},1,1,1,1"], "at most 256 of a sort"),
        (["check", "--timeout", "nan"], "a time limit is more than 0"),
        (["check", "--timeout", "inf"], "at most 1,000,000"),
        (["check", "--proof-time", "nan"], "a time limit is more than 0"),
        (["check", "--memory", "nan"], "memory is more than 0"),
        (["diff", "v5.8", "v5.9", "--time", "nan"], "a time limit is more than 0"),
        (["coverage", "-k", "v5.9", "--timeout", "nan"], "a time limit is more than 0"),
        (["verify", "--timeout", "nan"], "a time limit is more than 0"),
        (["verify", "--solver", "'"], "No closing quotation"),
        (["verify", "--solver", ""], "no solver ''"),
        (["check", "--engine", "spin"], "no engine 'spin'"),
        (["check", "--timeout", "0"], "more than 0 seconds"),
        (["check", "--depth", "-1"], "0 or more"),
        (["check", "--without", "frok"], "did you mean fork?"),
        (["check", "--out", "/proc/none/x"], "cannot write to /proc/none/x"),
        (["check", "--nonsense"], "--nonsense"),
        (["chekc"], "chekc"),
        (["show", "none.json"], "cannot read none.json"),
        (["show", "{truncated}"], "is not a trace"),
        (["show", "{empty}"], "is not a complete trace"),
        (["show", "{truncated}", "-f", "pdf"], "no format 'pdf'"),
        (["litmus", "{malformed}"], "malformed.litmus:3:"),
        (["litmus", "none.litmus"], "none.litmus"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], says: str
) -> None:
    files = {
        "file": "from model.kernels import V5_9\nMINE = V5_9\n",
        "raises": "from model.kernels import V5_9\nMINE = 1 / 0\n",
        "syntax": "MINE = = 1\n",
        "predicate": "from model.kernels import V5_9\nMINE = V5_9.but('m', 'x', reuse=lambda p, v, f: p.nothing)\n",
        "decision": "from model.kernels import V5_9\nMINE = V5_9.but('m', 'x', reusee=1)\n",
    }
    paths = {}
    for name, text in files.items():
        paths[name] = tmp_path / f"{name}.py"
        paths[name].write_text(text)
    paths["truncated"] = tmp_path / "truncated.trace.json"
    paths["truncated"].write_text('{"#meta": {"schema": 1')
    paths["empty"] = tmp_path / "empty.trace.json"
    paths["empty"].write_text("{}")
    paths["malformed"] = tmp_path / "malformed.litmus"
    paths["malformed"].write_text("litmus t\npage x\nA: wriet x 1\nexists A.x == 1\n")
    filled = [a.format(**paths) for a in arguments]
    code, out, err = run(capsys, *filled)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.slow
def test_an_interrupted_check_keeps_what_is_done(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from proofs.check import tables\n"
        "from proofs.cli.main import main\n"
        "real = tables.run\n"
        "def one(*a, **k):\n"
        "    for done in real(*a, **k):\n"
        "        yield done\n"
        "        raise KeyboardInterrupt\n"
        "tables.run = one\n"
        "if __name__ == '__main__':\n"
        f"    sys.exit(main(['check', '-k', 'v5.9', '--scope', '{SMALL}', '-o', {str(tmp_path)!r}]))\n"
    )
    path = tmp_path / "interrupted.py"
    path.write_text(script)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3
    assert "interrupted" in done.stderr
    assert list((tmp_path / "results").glob("*.json"))
    assert not list((tmp_path / "results").glob("*.part"))


def test_a_violation_where_exploration_saw_none_is_a_disagreement_even_if_it_ran_out_of_time() -> None:
    query = jobs.query_of(jobs.Job("v5.9", ("coherence-write-pin",), scopes.SCOPES["default"], "both", None, 5, (), ""))
    (claim,) = query.claims
    first = Evidence(claim.name, "UNKNOWN", "explore", 0.0, diameter=3)
    unrolled = Unrolling(query.system, query.scope)
    found = second_opinion(query, claim, first, unrolled)
    assert (found.verdict, len(found.path or ()), found.engine) == ("VIOLATED", 4, "bmc")
    with pytest.raises(EngineError, match="exploration says UNKNOWN"):
        second_opinion(query, claim, replace(first, diameter=4), unrolled)


def test_engines_that_disagree_end_the_program_with_a_code_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disagree(*_: object, **__: object) -> None:
        raise EngineError("one says this, one says that")

    monkeypatch.setattr(tables, "run", disagree)
    code, out, err = run(capsys, "check", "-k", "v5.9", "-o", tmp_path)
    assert (code, out) == (4, "")
    assert "internal error: one says this" in err


# What only a user's files can do wrong

BY_PROCESS = {
    "a kernel": (
        "MINE = V5_9.but('mine', '', mprotect_pinned='skip' if parent_process() else 'clear')\n", "mprotect"),
    "an invariant": (
        "P = Invariant('p', 's', 'here', (Proc, Page), lambda p, v: And(pte_present(p, v), parent_process() is None),\n"
        "              lambda p, v: Not(pte_write(p, v)))\n", "P"),
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["explore", "proof"])
@pytest.mark.parametrize("case", BY_PROCESS)
def test_what_only_worker_processes_see_is_no_verdict(
    case: str, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, name = BY_PROCESS[case]
    file = tmp_path / "mine.py"
    file.write_text(
        "from multiprocessing import parent_process\nfrom invariants import Invariant\n"
        "from model import *\nfrom model.state import *\n" + text
    )
    given = ["-k", f"{file}:MINE", "-i", name] if case == "a kernel" else ["-k", "v5.9", "-i", f"{file}:{name}"]
    assert main(["check", *given, "--engine", engine, "--scope", "2,1,2,1,1", "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"proofs: \S+ gives other terms in another process: .*\n", told.err)
    assert not list((tmp_path / "out").rglob("*.json"))


CLAIM = """from invariants import Invariant
from model import *
from model.state import *
P = Invariant('p', 'what a read-only VMA has', 'here', (Proc, Page),
              lambda p, v: And(vma(p, v), Not(vma_write(p, v)), pte_present(p, v)),
              lambda p, v: {then}(pte_write(p, v)))
"""


@pytest.mark.slow
def test_a_claim_does_not_get_the_proof_of_one_of_a_like_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    Path("x_i.py").write_text(CLAIM.format(then="Not"))
    Path("x/i.py").write_text(CLAIM.format(then=""))
    given = ["-k", "v5.9", "--engine", "proof", "--proof-time", "10"]
    code, data = run_json(capsys, "check", *given, "-i", "x_i.py:P")
    assert (code, [c["verdict"] for c in data["results"]]) == (0, ["PROVED"])
    code, data = run_json(capsys, "check", *given, "-i", "x/i.py:P")
    assert (code, [c["verdict"] for c in data["results"]]) == (3, ["UNKNOWN"])


@pytest.mark.slow
def test_a_kept_result_is_of_what_was_asked_whatever_its_name_and_its_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(CLAIM.format(then="Not"))
    out = tmp_path / "out"
    given = ["-k", "v5.9", "--engine", "explore", "--scope", SMALL, "-o", out]

    def asked(*names: str) -> dict[str, str]:
        _, data = run_json(capsys, "check", *given, *(x for name in names for x in ("-i", name)))
        return {c["invariant"]: c["verdict"] for c in data["results"]}

    own = f"{tmp_path}/mine.py:P"
    assert asked("mprotect") == {"mprotect": "EXHAUSTED"}
    (kept,) = (out / "results").iterdir()
    assert asked(own) == {own: "EXHAUSTED"}
    assert asked("write-bit") == {"write-bit": "VIOLATED"}
    (violated,) = (f for f in (out / "results").iterdir() if '"VIOLATED"' in f.read_text())
    kept.write_text(violated.read_text())
    shutil.rmtree(out / "checks")
    assert asked("mprotect") == {"mprotect": "EXHAUSTED"}
