"""The explorer: its states are the interpreter's, and its server answers nobody but the page that it made."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import browser, needs_chromium

from invariants import INVARIANTS
from model.logic import ModelError
from proofs.check.scopes import scope_named
from proofs.cli import races
from proofs.cli.main import main
from proofs.naming.specs import formula_of, system_of
from proofs.pages import explorer as explorers
from proofs.pages import server
from proofs.pages.explorer import Explorer
from proofs.traces.trace import from_json, read, to_json

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


def walked(explorer: Explorer, *names: str) -> list[explorers.Step]:
    """The first step of each of these rules, one after the other."""
    path, state = list[explorers.Step](), explorer.interpreter.initial()
    for name in names:
        step, state = next((s, after) for s, after in explorer.choices(state) if s.rule.name == name)
        path.append(explorers.as_step(step))
    return path


def test_a_path_that_breaks_a_claim_is_sent_to_a_kernel_as_its_trace(explorer: Explorer) -> None:
    told = explorer.on_kernel(SOFT_DIRTY, "coherence-write-pin")
    assert told["command"] == "python -m proofs replay v5.9.trace.json --vmlinuz KERNEL"
    assert (told["file"], told["order"]) == (explorer.files()["trace"], "")
    assert "A: r = pin x write" in told["test"]
    with pytest.raises(ModelError, match="only a trace that breaks one"):
        explorer.on_kernel(SOFT_DIRTY[:2])


def test_what_overlaps_is_sent_with_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F4: fork tests for pinned pages before GUP-fast has its reference, and shares the page after it."""
    explorer = Explorer("v5.9@gup-fast,fork", scope_named(SMALL))
    path = walked(
        explorer, "anon-fault", "fast-pin-write.read", "fork.test", "fast-pin-write.grab", "fast-pin-write.check",
        "fork.copy", "fork.finish", "wp-copy",
    )
    told = explorer.on_kernel(path, "coherence-write-pin")
    assert told["command"] == "python -m proofs replay v5.9@gup-fast,fork.trace.json --schedule --vmlinuz KERNEL"
    assert "A: r = pin x write fast || A: fork C" in told["test"]
    order = told["order"].split()
    assert order.index("2:test") < order.index("1:grab") < order.index("1:check") < order.index("2:copy")
    # The file that it names is what is saved, and `replay` begins with that order, also on a kernel that excludes it.
    file = tmp_path / told["file"]
    file.write_text(explorers.SAVED["trace"][1](explorer.trace(path, "coherence-write-pin")))
    asked = list[races.RaceRequest]()
    monkeypatch.setattr(races, "ask", lambda tests, images, kernel, request, *_: asked.append(request) or 0)
    for given in ([], ["--order", "2:done"]):
        assert main(["replay", str(file), "--schedule", "--vmlinuz", "vmlinuz", "-k", "v6.1", *given]) == 0
    assert [request.order for request in asked] == [told["order"], "2:done"]


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
    for named, said in (("kernel", "this trace is of .*, not of"), ("claim", "explore with --invariant")):
        data = to_json(explorer.trace(SOFT_DIRTY))
        data["#meta"][named] = f"{file}:X"
        with pytest.raises(ModelError, match=said):
            explorer.path_of(data)
    assert not (tmp_path / "ran").exists()


def test_a_trace_of_a_kernel_without_some_rules_is_not_walked(explorer: Explorer) -> None:
    data = to_json(explorer.trace(SOFT_DIRTY))
    data["#meta"]["without"] = ["swap-out"]
    with pytest.raises(ModelError, match="of the kernel without swap-out"):
        explorer.path_of(data)


@pytest.mark.parametrize("sizes", [
    None, [], 3, {"Proc": "2"}, {"Proc": True}, {"Proc": 1e999}, {"Proc": [2]}, {"Proc": 64}, {"Other": 1}, {"Proc": 0},
    {},
])
def test_a_trace_of_a_scope_that_is_none_here_is_refused_at_once(explorer: Explorer, sizes: Any) -> None:
    data = to_json(explorer.trace(SOFT_DIRTY))
    data["#meta"]["scope"] = {**data["#meta"]["scope"], **sizes} if isinstance(sizes, dict) and sizes else sizes
    started = time.monotonic()
    with pytest.raises(ModelError):
        explorer.path_of(data)
    assert time.monotonic() - started < 2


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

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def say(self, said: bytes) -> bytes:
        """All that comes back for these bytes, until the connection ends; nothing more is said after them."""
        heard = b""
        with self.connect() as connection, suppress(OSError):
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                heard += part
        return heard

    def request(self, line: str = "POST /view HTTP/1.1", body: bytes = b'{"path": []}', **headers: str) -> bytes:
        """A request of whoever has the token, with other headers or, if they are empty, without."""
        named = {"Host": f"127.0.0.1:{self.port}", "X-Token": self.token, "Content-Length": str(len(body)),
                 **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = [line, *(f"{name}: {value}" for name, value in named.items() if value)]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def quick(self) -> bool:
        """Whether a request is answered as if there were no other."""
        started = time.monotonic()
        return self.post("/view", {"path": []})[0] == 200 and time.monotonic() - started < 4


def status_of(heard: bytes) -> int:
    """The status of an answer, 0 if there is none."""
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", heard)
    return int(found[1]) if found else 0


WOKEN_TWICE = """
import sys, time
from waitress import trigger
wake = trigger.trigger._physical_pull
def twice(self):
    wake(self)
    time.sleep(0.3)
    wake(self)
trigger.trigger._physical_pull = twice
from proofs.cli.main import main
sys.exit(main())
"""
"""The explorer, whose listening thread is woken a second time when it has done what it was woken for."""


@contextmanager
def started(*program: str) -> Iterator[tuple[Running, subprocess.Popen[str]]]:
    """The explorer as a user starts it, in a process of its own, which Ctrl-C ends without another word."""
    command = [sys.executable, *(program or ("-m", "proofs")), "explore", "-k", "v5.9", "--scope", SMALL, "--serve"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", process.stdout.readline())
        assert found
        yield Running(int(found[1]), found[2]), process
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)[1]
        assert (process.returncode, said.strip()) == (0, "")
    finally:
        process.kill()
        process.wait()


def test_an_end_is_no_failure_where_the_listening_thread_has_ended_before_it_is_woken() -> None:
    with started("-c", WOKEN_TWICE):
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with started() as (it, _):
        yield it


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
    assert running.ask("DELETE", "/view")[0] == 405
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


def test_a_path_is_told_for_a_kernel_or_why_not(running: Running) -> None:
    status, told = running.post("/kernel", {"path": SOFT_DIRTY, "claim": "coherence-write-pin"})
    assert (status, set(told)) == (200, {"command", "file", "test", "order"})
    status, told = running.post("/kernel", {"path": SOFT_DIRTY[:1]})
    assert (status, set(told)) == (400, {"error"})
    assert running.post("/kernel", {"path": SOFT_DIRTY}, X_Token="wrong")[0] == 403


@pytest.mark.parametrize("target", [
    "http://[::1", "http://[::1/?token={token}", "http://[", "http://]", "http://[::1]evil/", "http://[v1.x]/",
    "//[::1", "http://:99999999/x", "http://\u2100/", "https://\u00b2", "*", "?", "#", "/%", "/%ff%fe", "/%00", "/\x00",
    "/\x7f", "/\u00b2", "a b", "", " ", "/ HTTP/1.1 GET /", "/" + "a" * 10_000, "/" + "a" * 15_000,
    "/?" + "token=&" * 2_000, "/..;/", "\\",
])
def test_any_target_is_answered(running: Running, target: str) -> None:
    for method in ("GET", "POST"):
        line = f"{method} {target.format(token=running.token)} HTTP/1.1"
        heard = running.say(running.request(line, body=b"", Content_Length="", X_Token="wrong"))
        assert 400 <= status_of(heard) < 500
        assert json.loads(heard.partition(b"\r\n\r\n")[2])["error"]
    assert running.quick()


@pytest.mark.parametrize("length", [
    "\u00b2", "\u0661", "\uff11", "-1", "-0", "+1", "1_0", "1 1", "0x10", "1.0", "1e3", "x", "1,1", "12, 12",
    "9" * 30, "9" * 5000, "12\r\nContent-Length: 3", "12\r\nContent-Length: 12", "\u00a012", "12;",
])
def test_a_length_that_is_none_is_refused(running: Running, length: str) -> None:
    heard = running.say(running.request(Content_Length=length))
    assert status_of(heard) == (413 if length == "9" * 30 else 400)
    assert heard.count(b"HTTP/1.1 ") + heard.count(b"HTTP/1.0 ") == 1, "what follows is not taken for a request"
    assert running.quick()


def test_a_body_may_come_in_chunks_if_they_are_such(running: Running) -> None:
    body = json.dumps({"path": SOFT_DIRTY}).encode()
    whole = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:3], body[3:])) + b"0\r\n\r\n"

    def chunked(said: bytes, coding: str = "chunked", length: str = "") -> int:
        return status_of(running.say(running.request(body=said, Transfer_Encoding=coding, Content_Length=length)))

    assert chunked(whole) == 200
    assert chunked(whole.replace(b"\r\n", b";a=b\r\n", 1)) == 200
    for bad in (b"-3\r\n", b"zz\r\n", b"0x3\r\n", b"\xc2\xb2\r\n", b"3;=\r\n", b"3\r\nabcd\r\n", b"3 \r\nabc\r\n"):
        assert chunked(bad + whole) == 400
    assert chunked(b"f" * 5000 + b"\r\n" + whole) in (0, 400), "it ends before it has begun"
    assert chunked(b"400001\r\n" + b" " * 0x400001 + b"\r\n0\r\n\r\n") in (0, 413), "hung up while it was said"
    assert chunked(whole[:-5]) == 0, "it never ended"
    for coding in ("gzip", "chunked, gzip", "identity", "\u00b2"):
        assert chunked(whole, coding) == 501
    assert running.quick()


def test_what_is_too_large_is_refused(running: Running) -> None:
    many = {f"X-{number}": "a" for number in range(3000)}
    assert status_of(running.say(running.request(**many))) in (0, 431)
    assert status_of(running.say(running.request(X_Long="a" * server.HEADERS))) in (0, 431)
    assert status_of(running.say(running.request(Content_Length=str(explorers.LARGEST + 1)))) == 413
    endless = b"POST /view HTTP/1.1\r\nA: " + b"a" * 100_000_000
    with running.connect() as connection, pytest.raises(ConnectionError):  # it is not heard out
        connection.sendall(endless)
    largest = json.dumps({"path": [3], "": "a" * (explorers.LARGEST - 21)}).encode()
    assert len(largest) == explorers.LARGEST
    assert running.ask("POST", "/view", largest, X_Token=running.token)[0] == 400
    assert running.quick()


@pytest.mark.parametrize("depth", [10, 500, 900, 950, 1_000, 10_000, 1_000_000])
def test_any_nesting_is_answered(running: Running, depth: int) -> None:
    step = b'{"rule": "anon-fault", "binding": {"p": %s, "v": 0, "new": 0}}'
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'{"path":[', b"]}")):
        times = min(depth, explorers.LARGEST // 20)
        nested = opening * times + b"0" + closing * times
        for body in (nested, b'{"path": %s}' % nested, b'{"path": [%s]}' % (step % nested),
                     b'{"#meta": {"kernel": "v5.9", "scope": {"Proc": 1}, "steps": %s}}' % nested):
            for place in ("/view", "/load", "/save/trace"):
                assert running.ask("POST", place, body, X_Token=running.token)[0] == 400
    assert running.quick()


def test_any_text_is_answered(running: Running) -> None:
    for text in (r"\ud800", r"\u0000", r"\n", "\u00b2", "a" * 1_000_000):
        for body in ('{"path": [{"rule": "%s", "binding": {}}]}', '{"path": [], "claim": 3, "%s": 3}, ', '"%s"',
                     '{"path": [{"rule": "anon-fault", "binding": {"p": "%s", "v": 0, "new": 0}}]}'):
            assert running.ask("POST", "/view", (body % text).encode(), X_Token=running.token)[0] == 400
        body = f'{{"#meta": {{"kernel": "{text}"}}}}'
        assert running.ask("POST", "/load", body.encode(), X_Token=running.token)[0] == 400
    for bad in (b"\xff\xfe", b"\x00", b'{"path": ["\xc3"]}', b'\xef\xbb\xbf{"path": 3}', b"1" * 5000, b"1e999"):
        assert running.ask("POST", "/view", bad, X_Token=running.token)[0] == 400


def test_any_method_is_answered(running: Running) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "X" * 1000, "!"):
        status, text, headers = running.ask(method, f"/?token={running.token}")
        assert (status, set(json.loads(text)), headers["Allow"]) == (405, {"error"}, "GET, HEAD, POST")
    for method in ("get", "G\u00b2T", "G(T", ""):
        assert status_of(running.say(running.request(f"{method} / HTTP/1.1", b"", Content_Length=""))) == 400
    status, text, headers = running.ask("HEAD", f"/?token={running.token}")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 100
    assert running.ask("HEAD", "/")[0] == 403
    for version in ("HTTP/0.9", "HTTP/2.0", "HTTP/9.9", "HTTP/1.1 "):
        heard = running.say(running.request(f"GET /?token=wrong {version}", b"", Content_Length=""))
        assert 400 <= status_of(heard) < 500


@pytest.mark.parametrize("said", [
    pytest.param(b"", id="nothing"), pytest.param(b"P", id="one byte"), pytest.param(b"\r\n" * 4, id="empty lines"),
    pytest.param(b"POST /view HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{", id="half a request"),
])
@pytest.mark.parametrize("number", [3, 600])
def test_connections_that_wait_hold_nobody_up(running: Running, number: int, said: bytes) -> None:
    with ExitStack() as waiting:
        for _ in range(number):
            connection = waiting.enter_context(running.connect())
            with suppress(ConnectionError):
                connection.sendall(said)
        assert running.quick()
    assert running.quick()


@pytest.mark.slow
def test_slow_senders_hold_nobody_up_and_are_ended(running: Running) -> None:
    said = (
        b"POST /view HTTP/1.1\r\nX: " + b"a" * 90, b"POST / HTTP/1.1\r\nContent-Length: 90\r\n\r\n" + b"a" * 50,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\nab\r\n" * 9, b"\r\n" * 50,
    )
    started = time.monotonic()
    with ExitStack() as senders:
        slow = [(senders.enter_context(running.connect()), each) for each in said * 22]
        for number in range(min(map(len, said))):
            for connection, each in list(slow):
                try:
                    connection.sendall(each[number:number + 1])
                except ConnectionError:
                    slow.remove((connection, each))
            if not slow:
                break
            assert running.quick()
            time.sleep(0.5)
        assert not slow
    assert server.SECONDS - 2 < time.monotonic() - started < server.SECONDS + 15


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_ended_amid_requests_and_connections(explorer: Explorer, number: signal.Signals) -> None:
    path: list[dict[str, Any]] = []
    state = explorer.interpreter.initial()
    while len(path) < explorers.LONGEST:
        step, state = next((s, a) for s, a in explorer.choices(state) if "exit" not in s.rule.name)
        path.append(explorers.as_step(step))
    body = json.dumps({"path": path}).encode()
    # Within z3 as often as not: an exception there would be lost, or crash it.
    for delay in (0.2, 0.5, 0.9):
        with started() as (it, process), ExitStack() as waiting:
            for said in [it.request(body=body)] * 20 + [b""] * 200:
                waiting.enter_context(it.connect()).sendall(said)
            time.sleep(delay)
            process.send_signal(number)
            assert process.wait(10) == 0, process.stderr and process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_knows_the_address_can_end_it_at_once(explorer: Explorer, number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda *_: heard.append(number))
    try:
        with server.server(explorer) as running:
            signal.raise_signal(number)
            running.serve()
            assert heard == []
            signal.raise_signal(number)
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert heard == [number] * 2, "a second one, and one afterwards, mean what they did before"


# Requests at random

INPUTS = int(os.environ.get("PROOFS_REQUESTS", "1000"))
"""How many; by hand more of them, of another PROOFS_SEED."""
PUBLIC = ("/", "/style.css", "/explorer.js", "/domain.html")
PIECES = (
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"/", b"?", b"#", b"%", b"%00", b"[", b"]", b"//", b"\x00", b"\xff",
    b"\xc2\xb2", b"http://[::1", b"-1", b"0", b"9" * 25, b"HTTP/1.0", b"HTTP/1.1", b"GET ", b"POST ", b"0\r\n\r\n",
    b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Host: evil\r\n",
    b"Connection: keep-alive\r\n", b"Connection: close\r\n", b"Origin: null\r\n", b"X-Token: \r\n", b"{", b"}", b'"',
    b"null", b"true", b"1e999", b"NaN", b"\\ud800",
)


def mutated(rng: random.Random, said: bytes) -> bytes:
    """The bytes with a few places cut out, doubled, or replaced."""
    for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 3, 8))):
        start = rng.randrange(len(said) + 1)
        end = min(len(said), start + rng.choice((0, 0, 1, 1, 2, 5, 20, 200)))
        put = rng.choice((b"", rng.choice(PIECES), rng.choice(PIECES), rng.randbytes(1), said[start:end] * 2))
        said = said[:start] + put + said[end:]
    return said


def altered(rng: random.Random, data: Any) -> Any:
    """The JSON value with one place changed."""
    other = (None, True, 0, 1, -1, 64, 1 << 70, 0.5, "", "x", "\ud800", "a.py:X", "v5.9", [], {}, [0], {"rule": "fork"})
    if not isinstance(data, dict | list) or not data or rng.random() < 0.1:
        return rng.choice(other)
    copy: Any = dict(data) if isinstance(data, dict) else list(data)
    key = rng.choice(list(data)) if isinstance(data, dict) else rng.randrange(len(data))
    if rng.random() < 0.1:
        del copy[key]
    else:
        copy[key] = altered(rng, data[key])
    return copy


def inputs(rng: random.Random, it: Running, trace: Any) -> Iterator[tuple[bytes, bool]]:
    """Requests more or less broken, and whether who sends them has the token."""
    bodies: tuple[tuple[str, Any], ...] = (
        ("/view", {"path": SOFT_DIRTY, "claim": "coherence-write-pin"}), ("/save/trace", {"path": SOFT_DIRTY}),
        ("/save/litmus", {"path": SOFT_DIRTY, "claim": "coherence-write-pin"}), ("/load", trace), ("/nowhere", {}),
    )
    stranger = Running(it.port, "x" * len(it.token))
    while True:
        known = rng.random() < 0.5
        who = it if known else stranger
        kind = rng.randrange(5)
        place, data = rng.choice(bodies)
        if kind == 0:
            said = rng.randbytes(rng.choice((1, 10, 100, 3000))) + rng.choice((b"", b"\r\n\r\n"))
        elif kind == 1:
            line = f"GET {rng.choice(PUBLIC)}?token={who.token} HTTP/1.1"
            said = mutated(rng, who.request(line, b"", Content_Length="", X_Token=""))
        elif kind == 2:
            said = who.request(f"POST {place} HTTP/1.1", json.dumps(altered(rng, data)).encode())
        elif kind == 3:
            body = json.dumps(data).encode()
            parts = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:9], body[9:])) + b"0\r\n\r\n"
            named = {"Content_Length": "", "Transfer_Encoding": "chunked"}
            said = mutated(rng, who.request(f"POST {place} HTTP/1.1", parts, **named))
        else:
            said = mutated(rng, who.request(f"POST {place} HTTP/1.1", json.dumps(data).encode()))
        yield said, it.token.encode() in said


DATA = (b"<title>Explorer", b'{"trace": ', b'{"path": ', b'"#meta"', b"# A path", b"litmus test")
"""What answers have that are not for everybody."""


@pytest.mark.slow
def test_requests_at_random_are_answered_and_give_strangers_nothing(explorer: Explorer) -> None:
    rng = random.Random(int(os.environ.get("PROOFS_SEED", "1")))
    seen: dict[int, int] = {}
    given = 0
    with started() as (it, process), ExitStack() as open_ones:
        for number, (said, known) in enumerate(inputs(rng, it, to_json(explorer.trace(SOFT_DIRTY)))):
            if number == INPUTS:
                break
            if rng.random() < 0.05:
                with suppress(ConnectionError):
                    open_ones.enter_context(it.connect()).sendall(said)
                continue
            heard = it.say(said)
            status = status_of(heard)
            seen[status] = seen.get(status, 0) + 1
            assert status != 500, (said, heard)
            has_data = any(each in heard for each in DATA)
            given += has_data
            assert known or not has_data, (said, heard)
            if number % 100 == 0:
                open_ones.pop_all().close()
                assert it.quick(), said
                assert process.poll() is None
        assert it.quick()
    assert given > INPUTS // 40, "some got what they asked for"
    assert {200, 400, 403} <= set(seen)
    print(f"{INPUTS} requests, by status of the answer (0: none): {dict(sorted(seen.items()))}; {given} with data")


def test_what_is_saved_can_be_loaded(running: Running) -> None:
    status, saved = running.post("/save/trace", {"path": SOFT_DIRTY, "claim": "coherence-write-pin"})
    assert status == 200
    assert saved["#meta"]["claim"] == "coherence-write-pin"
    assert running.post("/load", saved) == (200, {"path": SOFT_DIRTY})


@pytest.mark.slow
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
        claims = "[...document.querySelectorAll('.claims li')].map(c => c.innerText)"
        said = claims + ".find(c => c.includes('{0}')).split(' {0}')[0]"
        assert tab.run(said.format("coherence-write-pin")) == "says nothing here"
        for number, step in enumerate(SOFT_DIRTY, 1):
            tab.run(click.format(".choice", step["rule"]))
            tab.until(at.format(number, "s" * (number > 1)))
        assert "coherence-write-pin" in tab.run("document.querySelector('.claims').innerText.split('soft-dirty')[0]")
        assert tab.run("document.querySelectorAll('.claims .violated').length") == 2
        assert tab.run(said.format("counters")) == "holds"
        drawing = "document.querySelector('.board svg')"
        assert tab.run(f"{drawing}.clientWidth == {drawing}.getAttribute('width')"), "it is not shrunk"
        tab.run(click.format(".claims button", "Mark it"))
        tab.until("document.querySelector('.shown .broken')")
        tab.press("ArrowLeft")
        tab.until(at.format(3, "s"))
        tab.run(click.format(".controls button", "Redo"))
        tab.until(at.format(4, "s"))
        tab.run(click.format(".controls button", "Undo"))
        tab.until(at.format(3, "s"))
        tab.run(click.format(".controls button", "Redo"))
        tab.until(at.format(4, "s"))
        tab.run(click.format(".controls button", "On a real kernel"))
        tab.until("document.querySelector('#main pre')")
        assert tab.run("document.querySelector('#main pre').innerText").startswith("python -m proofs replay v5.9.trace")
        tab.run(click.format(".controls button", "Undo"))
        tab.until(at.format(3, "s"))
        assert tab.run("document.querySelectorAll('#main pre').length") == 0, "that was of another path"
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
