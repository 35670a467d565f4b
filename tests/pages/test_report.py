"""The report: what its pages say is what `check` and `litmus` say, and a browser needs nothing else to show it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from browser import Page, browser, needs_chromium
from samples import F1

from invariants import invariant
from proofs.check import jobs, scopes
from proofs.check.cells import Table
from proofs.cli.main import main
from proofs.litmus.parser import parse
from proofs.naming.specs import find_kernel
from proofs.pages.report import ASSETS, WEB, write
from proofs.traces.svg import CHANGED_FILL

SCOPE = "2,1,2,1,1"
CLAIMS = ("coherence-write-pin", "write-bit", "exclusive")
KERNEL = '''
from model.kernels import V5_9
MINE = V5_9.but("mine", """</script><script>window.hurt = 1</script><img src=x onerror="window.hurt = 1">""")
'''
LITMUS = F1.replace("page x", 'about  <script>window.hurt = 1</script> & "the child" keeps a reference\npage x', 1)
REAL = {"litmus": "F1", "release": "5.7.0", "kernel": "v5.7", "model": "Allowed", "observed": "r sees 2",
        "status": "agree", "reason": "<b>twice</b>"}
DIGEST = parse(LITMUS, "F1").digest


class Document(HTMLParser):
    """What a page is made of. Raises AssertionError where an element is not closed by its own end."""

    VOID = frozenset({"meta", "link", "input", "br", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.data = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.data += data

    def values(self, attribute: str) -> list[str]:
        return [a[attribute] for _, a in self.elements if attribute in a]


@dataclass(frozen=True)
class Report:
    """A report with all that a page may have: what `check --json` said, its pages, and their data."""

    folder: Path
    told: dict[str, Any]
    pages: dict[str, Document]

    def data(self, name: str) -> dict[str, Any]:
        return json.loads(self.pages[name].data)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    (folder / "mine.py").write_text(KERNEL)
    (folder / "F1.litmus").write_text(LITMUS)
    real = [{**REAL, "digest": DIGEST}, {**REAL, "litmus": "F99"}]
    (folder / "real.json").write_text(json.dumps({"schema": 1, "results": real}))
    pages = folder / "pages"
    arguments = ["-k", "v5.9", "-k", "v5.7", "-k", "v5.19", "-k", f"{folder}/mine.py:MINE", "--scope", SCOPE]
    arguments += [text for claim in CLAIMS for text in ("-i", claim)]
    arguments += ["--report", str(pages), "--litmus", str(folder / "F1.litmus"), "--replayed",
                  str(folder / "real.json"), "-o", str(folder / "out"), "--json"]
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        assert main(["check", *arguments]) == 1
    parsed = {p.name: Document(p.read_text(encoding="utf-8")) for p in pages.glob("*.html")}
    return Report(pages, json.loads("".join(printed)), parsed)


@pytest.mark.slow
def test_it_is_a_few_files_and_none_asks_for_another_place(report: Report) -> None:
    names = {p.name for p in report.folder.iterdir()}
    assert names == {"index.html", "litmus.html", "domain.html", *ASSETS}
    for page in report.pages.values():
        assert page.elements[0] == ("html", {"lang": "en"})
        for loaded in [*page.values("src"), *(a["href"] for tag, a in page.elements if tag == "link")]:
            assert loaded in names or loaded == "data:,"
    for name in names - set(report.pages):
        assert not re.search(r"https?://|@import|url\(|fetch\(", (report.folder / name).read_text(encoding="utf-8"))


def test_every_cell_of_the_table_is_a_verdict_of_check_and_leads_to_its_evidence(report: Report) -> None:
    cells = {(c["kernel"], c["invariant"]): c for c in report.data("index.html")["cells"]}
    told = {(c["kernel"], c["invariant"]): c for c in report.told["results"]}
    assert cells.keys() == told.keys()
    assert {c["verdict"] for c in cells.values()} == {"VIOLATED", "PROVED"}
    pictures = report.data("index.html")["pictures"]
    for place, cell in cells.items():
        assert {key: cell[key] for key in told[place]} == told[place]
        if cell["verdict"] == "VIOLATED":
            states = cell["counterexample"]["states"]
            assert len(states) == cell["length"] + 1
            assert cell["counterexample"]["broken"].startswith("Here: ")
            assert all(pictures[state["picture"]].startswith("<svg ") for state in states)
            assert all(state["function"] and state["source"] and state["about"] for state in states[1:])
            led = {href.partition("#")[2] for state in states[1:] for _, href in state["source"] if "#" in href}
            assert led <= set(report.pages["domain.html"].values("id"))
            assert all(pictures[s["picture"]].split(" width")[0] == pictures[states[0]["picture"]].split(" width")[0]
                       for s in states), "the picture does not change its size"
        else:
            assert len(cell["proof"]["clauses"]) == len(cell["proof"]["formulas"]) == cell["clauses"] - 1
            assert {"initiation", "safety"} < set(cell["proof"]["obligations"])
            assert cell["proof"]["formula"].startswith("(forall ")


def test_links_lead_to_what_there_is(report: Report) -> None:
    seen = 0
    for name, page in report.pages.items():
        ids = page.values("id")
        for link in page.values("href"):
            parts = urlsplit(link)
            if parts.scheme == "data" or link == "#main":
                assert link == "data:," or "main" in ids
                continue
            if parts.scheme == "https":
                assert parts.netloc in {"git.kernel.org", "lore.kernel.org", "kernel.googlesource.com"}
                continue
            if parts.path == "domain.html" or (name == "domain.html" and not parts.path):
                assert parts.fragment in ("", *report.pages["domain.html"].values("id"))
                continue
            assert not parts.scheme
            assert not parts.netloc
            assert (report.folder / (parts.path or name)).is_file()
            asked = {key: value for key, (value,) in parse_qs(parts.fragment).items()}
            data = report.data(name)
            if "litmus" in asked:
                assert asked["litmus"] in [test["name"] for test in data["tests"]]
            elif asked:
                assert any(asked.items() <= cell.items() for cell in data["cells"])
            seen += bool(asked)
    assert seen == len(report.told["results"]) + 1 + 4


def test_the_litmus_page_has_each_answer_and_what_real_kernels_did(report: Report) -> None:
    (test,) = report.data("litmus.html")["tests"]
    answers = [a["answer"] for a in test["answers"]]
    assert answers == ["Forbidden", "Allowed", "Forbidden", "Forbidden"]
    # Whether something exists is neither good nor bad: no colour stands beside the word.
    assert {(a["answer"], a["look"]) for a in test["answers"]} == {("Forbidden", "forbidden"), ("Allowed", "allowed")}
    style = (report.folder / "style.css").read_text(encoding="utf-8")
    assert ".violated {" in style
    assert not re.search(r"\.(allowed|forbidden)\b", style)
    assert test["text"] == LITMUS
    assert [t["kernels"] for t in test["traces"]] == [["v5.7"]]
    assert test["traces"][0]["states"][-1]["words"][0] == "A: write x 2"
    assert test["real"] == [REAL]
    text = (report.folder / "litmus.html").read_text(encoding="utf-8")
    assert "Replayed, but not among these tests: F99" in text
    assert "1 agree" in text


def test_no_text_of_a_kernel_or_a_test_becomes_part_of_the_page(report: Report) -> None:
    for name, page in report.pages.items():
        text = (report.folder / name).read_text(encoding="utf-8")
        assert "<script>window" not in text
        assert "<img" not in text
        assert [tag for tag, _ in page.elements].count("script") == (1 if name == "domain.html" else 4)
    mine = next(c for c in report.data("index.html")["cells"] if "mine" in c["kernel"])
    assert "</script><script>" in mine["about"]


def test_every_colour_of_the_pictures_has_one_in_the_dark(report: Report) -> None:
    sheet = (WEB / "style.css").read_text(encoding="utf-8")
    used = {
        (attribute, colour) for name in report.pages for svg in report.data(name).get("pictures", ())
        for attribute, colour in re.findall(r'(fill|stroke)="(#\w+)"', svg)
    }
    assert ("fill", CHANGED_FILL) in used
    assert {pair for pair in used if f'svg [{pair[0]}="{pair[1]}"]' not in sheet} == set()
    light, dark = (set(re.findall(r"(--[\w-]+):", part)) for part in sheet.split("prefers-color-scheme")[:2])
    assert light == dark


def test_what_is_not_proved_says_how_far_it_was_looked_at(tmp_path: Path) -> None:
    """Tables of `check --full` have names, and cells of kernels with features."""
    found, tables = {}, []
    for name, engine in (("thp", "explore"), ("quick", "bmc")):
        kernels = (("v5.9", find_kernel("v5.9")),)
        table = Table(
            kernels, (invariant("mprotect"),), scopes.scope_named(SCOPE), name=name, about="A <b>table</b>",
            features=("huge",) if name == "thp" else (),
        )
        tables.append(table)
        for job in jobs.jobs(table, engine, 2):
            found |= {(name, cell.kernel, cell.invariant): cell for cell in jobs.run_job(job)}
    index = Document(write(tmp_path, tables, found).read_text(encoding="utf-8"))
    first, second = json.loads(index.data)["cells"]
    assert (first["table"], first["kernel"], first["verdict"]) == ("thp", "v5.9@huge", "EXHAUSTED")
    assert first["scope"] == "2 processes, 1 page, 2 frames, 1 reference, 1 swap slot, 2 folios, 1 block"
    assert first["states"] > 1
    assert (second["table"], second["kernel"], second["verdict"], second["depth"]) == ("quick", "v5.9", "BOUNDED", 2)
    links = [a["href"] for tag, a in index.elements if tag == "a" and "kernel=" in a.get("href", "")]
    assert links == ["#table=thp&kernel=v5.9%40huge&invariant=mprotect", "#table=quick&kernel=v5.9&invariant=mprotect"]
    assert "b" not in {tag for tag, _ in index.elements}
    assert not (tmp_path / "litmus.html").exists()


def luminance(colour: str) -> float:
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_stands_out_as_wcag_aa_wants() -> None:
    sheet = (WEB / "style.css").read_text(encoding="utf-8").split("* { box-sizing")[0]
    pairs = [(ink, ground) for ink in ("ink", "quiet") for ground in ("paper", "ground", "card", "shade")]
    pairs += [("ink", "changed-fill"), ("quiet", "changed-fill"), ("link", "ground"), ("link", "paper")]
    pairs += [(f"{v}-ink", f"{v}-fill") for v in ("violated", "proved", "exhausted", "bounded", "unknown")]
    for scheme in sheet.split("prefers-color-scheme"):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6});", scheme))
        for ink, ground in pairs:
            bright, dim = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (ink, ground)


@pytest.mark.parametrize(("given", "said"), [
    (["--litmus", "x.litmus"], "--report"),
    (["--report", "r", "--litmus", "none.litmus"], "cannot read none.litmus"),
    (["--report", "r", "--litmus", "."], "no litmus tests in ."),
    (["--report", "r", "--replayed", "bad.json"], "result 1: status 'fine' is none of agree, disagree"),
    (["--report", "r", "--replayed", "old.json"], "schema 1"),
    (["--report", "r", "--litmus", "of/F1.litmus", "--replayed", "other.json"], "result 1 is of another text of F1"),
    (["--report", "r", "--litmus", "of/F1.litmus", "--replayed", "unsaid.json"], "result 1 is of another text of F1"),
    (["--report", "file"], "cannot write to file"),
])
def test_bad_input_is_one_line(
    given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text(json.dumps({"schema": 1, "results": [{**REAL, "status": "fine"}]}))
    Path("of").mkdir()
    Path("of/F1.litmus").write_text(LITMUS.replace("write x 1", "write x 3", 1))
    Path("other.json").write_text(json.dumps({"schema": 1, "results": [{**REAL, "digest": DIGEST}]}))
    Path("unsaid.json").write_text(json.dumps({"schema": 1, "results": [REAL]}))
    Path("old.json").write_text(json.dumps({"schema": 0, "results": []}))
    Path("file").write_text("")
    assert main(["check", "-k", "v5.9", "-i", "write-bit", "--scope", SCOPE, *given]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


# In a browser

@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.slow
@needs_chromium
def test_a_browser_steps_through_a_counterexample_by_keys_buttons_and_links(report: Report, tab: Page) -> None:
    tab.look(1280)
    index = (report.folder / "index.html").as_uri()
    shown = "[...document.querySelectorAll('.state')].filter(s => s.checkVisibility()).map(s => s.id).join()"
    boxes = "JSON.stringify([...document.querySelectorAll('.shown svg')].map(s => [s.clientWidth, s.clientHeight]))"
    tab.open(f"{index}#kernel=v5.9&invariant=coherence-write-pin&step=2")
    assert tab.run(shown) == "state-2"
    size = tab.run(boxes)
    for key, state in (("ArrowRight", 3), ("End", 4), ("ArrowRight", 4), ("ArrowLeft", 3), ("Home", 0)):
        tab.press(key)
        assert tab.run(shown) == f"state-{state}"
        assert f"step={state}" in tab.run("location.hash")
        assert tab.run(boxes) == size
    tab.run("[...document.querySelectorAll('.controls button')].find(b => b.textContent.includes('Next')).click()")
    assert tab.run(shown) == "state-1"
    tab.run("document.querySelectorAll('.columns nav a')[4].click()")
    assert "is violated on v5.9" in tab.run("document.querySelector('.shown .broken').innerText")
    tab.press("Escape")
    tab.until("document.getElementById('overview').checkVisibility()")
    tab.run("document.querySelector('tbody a').focus()")
    tab.press("Enter")
    tab.until(shown)
    tab.press("Escape")
    tab.until("document.activeElement === document.querySelector('tbody a')")
    assert tab.log == []
    assert {urlsplit(url).scheme for url in tab.requests} <= {"file", "data", "about"}


def test_a_page_says_when_and_by_which_command_it_was_made(report: Report) -> None:
    for name in ("index.html", "litmus.html"):
        text = (report.folder / name).read_text(encoding="utf-8")
        made = r"Made \d{4}-\d\d-\d\d \d\d:\d\d UTC by cow-proofs [\d.]+: python -m proofs check -k v5\.9 "
        assert re.search(made, text)


@pytest.mark.slow
@needs_chromium
def test_a_browser_evaluates_an_expression_in_each_state(report: Report, tab: Page) -> None:
    tab.look(1280)
    tab.open(f"{(report.folder / 'index.html').as_uri()}#kernel=v5.9&invariant=coherence-write-pin&step=0")
    values = "[...document.querySelectorAll('.value')].filter(v => v.checkVisibility()).map(v => v.textContent).join()"
    said = "document.querySelector('.asking output').textContent"
    ask = "(() => {{ const i = document.querySelector('.asking input'); i.value = '{}';" \
          " i.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    # anon-fault, pin-write, then what takes the write bit, and the copy.
    for text, expected in (
        ("pte_write(A, x)", "false,true,true,false,true"),
        ("pin_live(r) and not pte_frame(A, x) == pin_frame(r)", "false,false,false,false,true"),
        ("page_count(P)", "–,1,1025,1025,1024"),
    ):
        tab.run(ask.format(text))
        assert (tab.run(values), tab.run(said)) == (expected, "")
    for text, message in (
        ("pte_writ(A, x)", "there is no state function pte_writ"), ("pte_write(A)", "pte_write takes 2, not 1"),
        ("pte_write(A, x) and", "the expression ends too early"), ("not page_count(P)", "not true or false"),
    ):
        tab.run(ask.format(text))
        assert tab.run(values) == ""
        assert message in tab.run(said)
    assert tab.log == []


@pytest.mark.slow
@needs_chromium
def test_a_link_to_what_is_not_there_says_so_and_a_litmus_test_opens_at_its_end(report: Report, tab: Page) -> None:
    tab.look(390)
    tab.open(f"{(report.folder / 'index.html').as_uri()}#kernel=v9.9&invariant=coherence-write-pin")
    assert "nothing at #kernel=v9.9&invariant=coherence-write-pin" in tab.run(
        "document.querySelector('[role=alert]').innerText")
    assert tab.run("document.getElementById('overview').checkVisibility()")
    tab.run("location.hash = '#kernel=v5.9&invariant=coherence-write-pin'")
    tab.until("document.querySelector('.state') !== null")
    assert not tab.run("document.querySelector('[role=alert]').checkVisibility()")
    tab.open(f"{(report.folder / 'litmus.html').as_uri()}#litmus=F1")
    last = "[...document.querySelectorAll('.state')].findLast(s => true).checkVisibility()"
    assert tab.run(last)
    assert "F1 on v5.7: Allowed" in tab.run("document.querySelector('h2').innerText + document.body.innerText")
    assert tab.run("document.querySelectorAll('.shown .words .breaks').length") > 0


@pytest.mark.slow
@needs_chromium
def test_a_browser_sorts_and_filters_the_table(report: Report, tab: Page) -> None:
    tab.look(1280)
    tab.open((report.folder / "index.html").as_uri())
    rows = "[...document.querySelectorAll('tbody tr')].filter(r => r.checkVisibility()).map(r => r.cells[0].innerText)"
    assert tab.run(rows)[:3] == ["v5.9", "v5.7", "v5.19"]
    for order, first in (("ascending", "v5.9"), ("descending", "v5.19")):
        tab.run("document.querySelectorAll('thead button')[1].click()")
        assert tab.run("document.querySelectorAll('thead th')[1].getAttribute('aria-sort')") == order
        assert tab.run(rows)[0] == first
    choose = "(() => {{ const i = document.querySelector('{}'); {}; i.dispatchEvent(new Event('input', " \
             "{{bubbles: true}})); }})()"
    tab.run(choose.format("input[value=violated]", "i.checked = false"))
    tab.run(choose.format("input[value=\"n/a\"]", "i.checked = false"))
    assert tab.run(rows) == ["v5.19"]
    assert tab.run("document.querySelector('output').innerText") == "2 verdicts"
    tab.run(choose.format("input[name=kernel]", "i.value = '5.7'"))
    assert tab.run(rows) == []


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("place", [
    "index.html", "index.html#kernel=v5.9&invariant=coherence-write-pin&step=4",
    "index.html#kernel=v5.19&invariant=coherence-write-pin", "litmus.html", "litmus.html#litmus=F1",
    "domain.html#row-j",
])
def test_pages_fit_a_phone_and_paper_and_run_nobody_elses_script(report: Report, tab: Page, place: str) -> None:
    for width, media, dark in ((390, "screen", True), (1280, "screen", False), (720, "print", False)):
        tab.look(width, dark=dark, media=media)
        tab.open(f"{report.folder.as_uri()}/{place}")
        assert tab.run("document.querySelector('h1').innerText.length") > 1
        if media == "screen":
            assert tab.run("document.documentElement.scrollWidth") <= width
        clipped = tab.run("""[...document.querySelectorAll('svg text')].filter((text) => {
            const [inner, outer] = [text, text.ownerSVGElement].map((each) => each.getBoundingClientRect());
            return text.textContent && (inner.left < outer.left - 1 || inner.right > outer.right + 1
                || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1);
        }).map((text) => text.textContent)""")
        assert clipped == []
        if media == "print" and "step" in place:
            assert tab.run("[...document.querySelectorAll('.state')].filter(s => s.checkVisibility()).length") == 5
    assert tab.run("window.hurt") is None
    assert tab.log == []
