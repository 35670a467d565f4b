"""The explorer: its states are the interpreter's, and its server answers nobody but the page that it made."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import browser, needs_chromium

from invariants import INVARIANTS
from model.logic import ModelError
from proofs import explorer as explorers
from proofs.check import scope_named
from proofs.cli import main
from proofs.explorer import Explorer
from proofs.kernel_file import formula_of, system_of
from proofs.trace import from_json, read, to_json

SMALL = "2,1,3,1,1"
SOFT_DIRTY = [
    {"rule": "anon-fault", "binding": {"p": 0, "v": 0, "new": 0}},
    {"rule": "pin-write", "binding": {"p": 0, "v": 0, "k": 0}},
    {"rule": "clear-soft-dirty", "binding": {"p": 0}},
    {"rule": "wp-copy", "binding": {"p": 0, "v": 0, "new": 1}},
]
"""How 5.9 loses a write pin."""


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    return Explorer("v5.9", scope_named(SMALL))


def test_it_begins_in_the_initial_state_where_every_claim_holds(explorer: Explorer) -> None:
    told = explorer.view([])
    assert [c["name"] for c in told["claims"]] == [i.name for i in INVARIANTS if i.name != "exclusive"]
    assert all(c["holds"] and not c["premise"] for c in told["claims"] if c["name"].startswith("coherence"))
    assert told["claims"][0]["source"][0] == ["I1", "domain.html#i1"]
    assert [s["title"] for s in told["trace"]["states"]] == ["start"]
    moving = [(s["rule"], s["who"], s["words"]) for s in told["steps"] if s["changes"]]
    assert ("anon-fault", "A", "process A, page x, new frame P") in moving
    assert ("fork", "A", "process A, child process C") in moving
    assert {who for _, who, _ in moving} == {"A"}


def test_steps_offered_are_the_interpreters_but_for_the_choice_of_a_fresh_element(explorer: Explorer) -> None:
    state = explorer.trace(SOFT_DIRTY[:2]).states[-1]
    offered = [(step.rule.name, step.binding) for step, _ in explorer.choices(state)]
    every = {(step.rule.name, step.binding) for step, _ in explorer.interpreter.successors(state)}
    assert {name for name, _ in offered} == {name for name, _ in every}
    assert set(offered) < every
    assert len(offered) == len(set(offered))


def test_a_step_that_breaks_a_claim_marks_it(explorer: Explorer) -> None:
    before, after = explorer.view(SOFT_DIRTY[:3]), explorer.view(SOFT_DIRTY)
    broken = {c["name"] for c in after["claims"] if not c["holds"]}
    assert broken == {"coherence-write-pin"} | {c["name"] for c in before["claims"] if not c["holds"]}
    assert after["trace"]["violated"]
    told = explorer.view(SOFT_DIRTY, "coherence-write-pin")
    assert told["marked"] == "coherence-write-pin"
    assert told["trace"]["broken"] == (
        "Here: the PTE of A at x maps Q, writable; r is a reference to P (FOLL_PIN, write, taken by A)."
    )


def places(svg: str) -> dict[str, tuple[str, ...]]:
    """Names written large, and where they stand."""
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" font-size="14"[^>]*>(\w+)</text>', svg)
    return {name: (x, y) for x, y, name in found}


def test_everything_keeps_its_place_as_the_path_grows(explorer: Explorer) -> None:
    path = [*SOFT_DIRTY, {"rule": "fork", "binding": {"p": 0, "child": 1, "fresh": [0]}}]
    rule = explorer.system.rule("fork")
    path[-1]["binding"] = {p.name: {"p": 0, "child": 1}.get(p.name, [0]) for p in rule.params}
    seen: dict[str, tuple[str, ...]] = {}
    for length in range(len(path) + 1):
        now = places(explorer.view(path[:length])["trace"]["states"][-1]["picture"])
        assert now
        for name, place in now.items():
            if name != "x":
                assert seen.setdefault(name, place) == place
    assert {"A", "C", "P", "Q", "r"} <= set(seen)


def test_a_saved_path_is_a_trace_like_those_of_check(explorer: Explorer, tmp_path: Path) -> None:
    for path, claim in ((SOFT_DIRTY, "coherence-write-pin"), (SOFT_DIRTY[:2], explorers.UNCLAIMED)):
        text = explorers.SAVED["trace"][1](explorer.trace(path, claim))
        file = tmp_path / "saved.json"
        file.write_text(text)
        trace = read(file, system_of, formula_of)
        assert trace.claim == claim
        assert [explorers.as_step(s) for s in trace.steps] == path
        assert explorer.path_of(json.loads(text)) == path
        assert main(["show", str(file)]) == 0


def test_a_trace_of_check_is_loaded_if_it_fits(
    explorer: Explorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", "-k", "v5.9", "-i", "coherence-write-pin", "--scope", "2,1,2,1,1", "--engine", "explore", "-o",
          str(tmp_path)])
    capsys.readouterr()
    file = tmp_path / "v5.9" / "coherence-write-pin.trace.json"
    assert main(["explore", "-k", "v5.9", "--from", str(file)]) == 0
    out = capsys.readouterr().out
    assert "violated: coherence-write-pin: a page pinned for writing" in out
    assert "Steps from here" in out
    # More pages here than there: a step that says something for every page says it for these too.
    assert main(["explore", "-k", "v5.9", "--from", str(file), "--scope", "2,2,4,1,1"]) == 0
    for given, said in (
        (["-k", "v5.8"], "this trace is of v5.9, not of v5.8"),
        (["-k", "v5.9", "--scope", "2,1,1,1,1"], "--scope 2,1,2"),
        (["-k", "v5.9", "--with", "ksm"], "not of v5.9@ksm"),
    ):
        assert main(["explore", *given, "--from", str(file)]) == 2
        errors = capsys.readouterr().err
        assert said in errors
        assert errors.count("\n") == 1


def test_a_trace_that_names_a_file_does_not_run_it(explorer: Explorer, tmp_path: Path) -> None:
    file = tmp_path / "evil.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    data = to_json(explorer.trace(SOFT_DIRTY))
    data["#meta"]["kernel"] = f"{file}:X"
    with pytest.raises(ModelError, match=r"this trace is of .*, not of"):
        explorer.path_of(data)
    assert not (tmp_path / "ran").exists()


def test_a_trace_that_begins_elsewhere_is_refused(explorer: Explorer) -> None:
    whole = explorer.trace(SOFT_DIRTY[:2])
    data = to_json(whole)
    data["states"] = [{**state, "#meta": {"index": i}} for i, state in enumerate(data["states"][1:])]
    data["#meta"]["steps"] = data["#meta"]["steps"][1:]
    assert from_json(data, "it", system_of).steps == whole.steps[1:]
    with pytest.raises(ModelError, match="does not begin in the initial state"):
        explorer.path_of(data)


@pytest.mark.parametrize("step", [
    None, 1, [], {}, {"rule": "anon-fault"}, {"rule": "none", "binding": {}}, {"rule": "anon-fault", "binding": 3},
    {"rule": "anon-fault", "binding": {"p": 0, "v": 0}}, {"rule": "anon-fault", "binding": {"p": 0, "v": 0, "new": 9}},
    {"rule": "anon-fault", "binding": {"p": 0, "v": 0, "new": -1}},
    {"rule": "anon-fault", "binding": {"p": 0, "v": 0, "new": "0"}},
    {"rule": "anon-fault", "binding": {"p": 0, "v": 0, "new": True}},
    {"rule": "anon-fault", "binding": {"p": [0], "v": 0, "new": 0}},
    {"rule": "anon-fault", "binding": {"p": {}, "v": 0, "new": 0}}, SOFT_DIRTY[1],
])
def test_what_is_no_step_is_refused_in_one_line(explorer: Explorer, step: Any) -> None:
    with pytest.raises(ModelError) as refused:
        explorer.view([step])
    assert "\n" not in str(refused.value)
    with pytest.raises(ModelError, match="at most"):
        explorer.view([SOFT_DIRTY[0]] * 1000)


# The server

@dataclass(frozen=True)
class Running:
    port: int
    token: str

    def ask(self, method: str, place: str, body: Any = None, **headers: str) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers of an answer. A header's name may have `_` for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, place, body if isinstance(body, bytes | None) else json.dumps(body), named)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())

    def post(self, place: str, body: Any, **headers: str) -> tuple[int, Any]:
        status, text, _ = self.ask("POST", place, body, **{"X_Token": self.token, **headers})
        return status, json.loads(text)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """As a user starts it, in a process of its own."""
    command = [sys.executable, "-m", "proofs", "explore", "-k", "v5.9", "--scope", SMALL, "--serve"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", process.stdout.readline())
        assert found
        yield Running(int(found[1]), found[2])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr
        assert process.stderr.read().strip() == ""
    finally:
        process.kill()
        process.wait()


def test_the_page_is_for_who_has_the_token(running: Running) -> None:
    status, text, headers = running.ask("GET", f"/?token={running.token}")
    assert status == 200
    assert "<title>Explorer: v5.9</title>" in text
    assert running.token not in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Referrer-Policy"] == "no-referrer"
    assert not re.search(r"https?://", text)
    for name in re.findall(r'(?:src|href)="([\w.]+)"', text):
        assert running.ask("GET", f"/{name}")[0] == 200
    assert 'id="row-j"' in running.ask("GET", "/domain.html")[1], "where the sources of steps and claims lead"
    for place in ("/", "/?token=", "/?token=wrong", "/?token=%ff"):
        assert running.ask("GET", place)[0] == 403
    for place in ("/../cli.py", "/explorer.py", "/%2e%2e/cli.py", "/view"):
        assert running.ask("GET", place)[0] == 404


def test_nobody_else_is_answered(running: Running) -> None:
    own = f"127.0.0.1:{running.port}"
    body = {"path": []}
    assert running.post("/view", body)[0] == 200
    assert running.post("/view", body, Origin=f"http://{own}")[0] == 200
    for origin in ("http://evil.example", "null", f"https://{own}", "http://127.0.0.1", f"http://{own}.evil.example"):
        status, told = running.post("/view", body, Origin=origin)
        assert (status, set(told)) == (403, {"error"})
        assert running.ask("GET", f"/?token={running.token}", Origin=origin)[0] == 403
    for host in ("evil.example", f"evil.example:{running.port}", "127.0.0.1", f"127.0.0.1:{running.port + 1}"):
        assert running.post("/view", body, Host=host)[0] == 403
        assert running.ask("GET", f"/?token={running.token}", Host=host)[0] == 403
    for token in ("", "wrong", running.token[:-1]):
        assert running.post("/view", body, X_Token=token)[0] == 403
    assert running.ask("POST", f"/view?token={running.token}", body)[0] == 403
    assert running.ask("DELETE", "/view")[0] == 501
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", running.port))


def test_bad_requests_are_answered_and_do_not_end_it(running: Running) -> None:
    for body in (b"", b"{", b"\xff", b"[" * 100_000, b"3", b'{"path": 3}', b'{"path": [3]}', b'{"path": [NaN]}'):
        status, text, _ = running.ask("POST", "/view", body, X_Token=running.token)
        assert (status, set(json.loads(text))) == (400, {"error"})
    assert running.post("/nowhere", {"path": []})[0] == 404
    assert running.post("/save/nothing", {"path": []})[0] == 404
    assert running.post("/load", {"#meta": {"kernel": "v5.9"}})[0] == 400
    assert running.post("/load", 3)[0] == 400
    assert running.ask("POST", "/view", None, X_Token=running.token, Content_Length="99999999999")[0] == 413
    assert running.post("/view", {"path": SOFT_DIRTY})[0] == 200


def test_a_connection_that_says_nothing_holds_nobody_up(running: Running) -> None:
    idle = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(3)]
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(running.post("/view", {"path": []})[0]))
    asking.start()
    asking.join(4)
    assert answers == [200]
    for each in idle:
        each.close()
    assert running.post("/view", {"path": []})[0] == 200


def test_what_is_saved_can_be_loaded(running: Running) -> None:
    status, saved = running.post("/save/trace", {"path": SOFT_DIRTY, "claim": "coherence-write-pin"})
    assert status == 200
    assert saved["#meta"]["claim"] == "coherence-write-pin"
    assert running.post("/load", saved) == (200, {"path": SOFT_DIRTY})


def test_json_and_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "-k", "v5.9", "--scope", SMALL, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["kernel"], told["path"]) == (1, "v5.9", [])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for given, said in (
            (["-k", "v5.9", "--serve", "--port", port], f"cannot listen on port {port}"), (["-k", "v5.x"], "no kernel"),
            (["-k", "v5.9", "--scope", "1"], "scope"), (["-k", "v5.9", "--from", "none"], "cannot read none"),
            (["-k", "v5.9", "--with", "hug"], "did you mean huge"), ([], "kernel"),
        ):
            assert main(["explore", *given]) == 2
            errors = capsys.readouterr().err
            assert said in errors
            assert errors.count("\n") == 1


# In a browser

@pytest.mark.slow
@needs_chromium
def test_a_browser_walks_undoes_saves_and_loads(running: Running, tmp_path: Path) -> None:
    click = "[...document.querySelectorAll('{}')].find(b => b.innerText.includes('{}')).click()"
    at = "document.querySelector('.controls output')?.innerText === '{} step{}'"
    with browser(tmp_path / "profile") as tab:
        tab.look(1280, 1000)
        tab.open(f"http://127.0.0.1:{running.port}/?token={running.token}", at.format(0, "s"))
        for number, step in enumerate(SOFT_DIRTY, 1):
            tab.run(click.format(".choice", step["rule"]))
            tab.until(at.format(number, "s" * (number > 1)))
        assert "coherence-write-pin" in tab.run("document.querySelector('.claims').innerText.split('soft-dirty')[0]")
        assert tab.run("document.querySelectorAll('.claims .violated').length") == 2
        tab.run(click.format(".claims button", "Mark it"))
        tab.until("document.querySelector('.shown .broken')")
        tab.press("ArrowLeft")
        tab.until(at.format(3, "s"))
        tab.run(click.format(".controls button", "Redo"))
        tab.until(at.format(4, "s"))
        tab.run(click.format(".controls button", "Undo"))
        tab.until(at.format(3, "s"))
        # A reload keeps the path; a file that is loaded replaces it.
        tab.ask("Page.reload")
        tab.until(at.format(3, "s"))
        saved = running.post("/save/trace", {"path": SOFT_DIRTY[:2]})[1]
        tab.run(f"""(() => {{
            const carrier = new DataTransfer(), input = document.getElementById('file');
            carrier.items.add(new File([{json.dumps(json.dumps(saved))}], 'saved.json'));
            input.files = carrier.files;
            input.dispatchEvent(new Event('change'));
        }})()""")
        tab.until(at.format(2, "s"))
        tab.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        tab.run(click.format(".controls button", "Save as trace"))
        tab.until("document.querySelector('.message').innerText === 'Saved as v5.9.trace.json.'")
        assert tab.log == []
        tab.look(390)
        assert tab.run("document.documentElement.scrollWidth") <= 390
