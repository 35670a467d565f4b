"""The explorer: one walks through a kernel's states by hand, in a terminal step by step or on a local page.

The server keeps nothing: each request brings its path from the initial state. It hears only this machine, and answers
only who has the token that its address carries, asked as the host that it is. Connections and what is said on them are
the business of waitress, which waits for all of them at once and hands on whole requests within limits.
"""

from __future__ import annotations

import gc
import hmac
import json
import logging
import queue
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask

from invariants import FURTHER, INVARIANTS, Invariant
from model.blame import nearest
from model.logic import ModelError, Scope, System
from proofs import domain, json_text
from proofs.check import trace_system
from proofs.graph import state_graphs
from proofs.interpreter import Instance, Interpreter, State
from proofs.kernel_file import check_spoken, features_of, file_of, find_invariant, find_kernel, formula_of
from proofs.render import to_itf
from proofs.report import SORT_WORDS, WEB, facts_page, page, scope_words, trace_data
from proofs.retell import retell
from proofs.text import first_sentence, state_lines
from proofs.trace import Trace, TraceError, default_names, execute, from_json

LONGEST = 400
"""Steps of a path."""
LARGEST = 1 << 22
"""Bytes of a request's body."""
HEADERS = 1 << 14
"""Bytes of a request's headers."""
SECONDS = 10
"""How long a request may take to arrive, from when its connection was made or last answered."""
CONNECTIONS = 100
"""How many may be open; of more, the one that has waited longest is closed."""
UNCLAIMED = "explored"
"""The claim of a saved path that breaks none."""
ASSETS = {"style.css": "text/css", "stepper.js": "text/javascript", "explorer.js": "text/javascript"}
SAVED: dict[str, tuple[str, Callable[[Trace], str]]] = {
    "trace": ("trace.json", to_itf),
    "litmus": ("litmus", lambda trace: retell(trace, find_kernel(trace.kernel)).text),
}
"""As what a path is saved: name to (file ending, how it is written)."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

Step = dict[str, Any]
"""`rule` and `binding`, as trace files have them."""


@dataclass(frozen=True)
class Explorer:
    """The states of one kernel in one scope. `kernel`: its name with features; `own`: names of users' invariants."""

    kernel: str
    scope: Scope
    own: tuple[str, ...] = ()

    @cached_property
    def system(self) -> System:
        return trace_system(self.kernel, tuple(map(find_invariant, self.own)))

    @cached_property
    def interpreter(self) -> Interpreter:
        return Interpreter(self.system, self.scope)

    @cached_property
    def claims(self) -> tuple[Invariant, ...]:
        """The invariants that say something of this kernel with its features."""
        kernel, features = find_kernel(self.kernel), set(features_of(self.kernel)[1])
        own = [find_invariant(name) for name in self.own]
        for each in own:
            check_spoken(each, self.kernel)
        stated = (*INVARIANTS, *FURTHER, *own)
        return tuple(i for i in stated if i.applies_to(kernel) and features.issuperset(i.features))

    def instance(self, step: Any) -> Instance:
        """The step of a request. Raises ModelError if it is none of this kernel and scope."""
        try:
            name, given = step["rule"], dict(step["binding"])
            rule = self.system.rule(name)
            bound = {p.name: given[p.name] for p in rule.params}
            values = tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in bound.items())
            found = Instance(rule, values)
            hash(found.binding)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"not a step: {type(error).__name__} {error}") from error
        for param in rule.params:
            value, size = found.as_dict[param.name], self.scope.size(param.sort)
            elements = value if param.over is not None and isinstance(value, tuple) else (value,)
            wanted = 1 if param.over is None else self.scope.size(param.over)
            whole = len(elements) == wanted and (param.over is None or isinstance(value, tuple))
            if not whole or not all(type(e) is int and 0 <= e < size for e in elements):
                raise ModelError(f"{name}: {param.name} = {value!r} is not in this scope")
        return found

    def trace(self, path: Sequence[Any], claim: str | None = None) -> Trace:
        """The path as a trace, of `claim` if its last state breaks that, else of the first claim that it breaks.

        Raises ModelError for a path that is none.
        """
        if len(path) > LONGEST:
            raise ModelError(f"a path has at most {LONGEST} steps")
        steps = [self.instance(step) for step in path]
        statement = "A path chosen by hand; its last state keeps every claim"
        trace = execute(self.kernel, UNCLAIMED, statement, self.system, self.scope, steps)
        broken = self.broken(trace.states[-1])
        chosen = next((i for i in broken if i.name == claim), broken[0] if broken else None)
        if chosen is None:
            return trace
        return execute(
            self.kernel, chosen.name, chosen.statement, self.system, self.scope, steps, violated=chosen.formula
        )

    def broken(self, state: State) -> list[Invariant]:
        """The claims that do not hold in the state."""
        return [i for i in self.claims if not self.interpreter.evaluate(i.formula, state)]

    def path_of(self, data: Any) -> list[Step]:
        """The path of a trace file. Raises ModelError if it is of another kernel or scope, or does not begin initially.

        Its kernel, claim and scope are compared before anything is made of it: a trace may name a file, which would be
        run, and sizes that take long.
        """
        meta = data.get("#meta") if isinstance(data, dict) else None
        if not isinstance(meta, dict):
            raise TraceError("this is not a trace")
        if meta.get("kernel") != self.kernel:
            raise TraceError(f"this trace is of {meta.get('kernel')}, not of {self.kernel}: explore that kernel")
        claim, sizes = meta.get("claim"), meta.get("scope")
        if isinstance(claim, str) and file_of(claim) is not None and claim not in self.own:
            raise TraceError(f"this trace is of {claim}: explore with --invariant {claim}")
        if not isinstance(sizes, dict) or not all(type(size) is int for size in sizes.values()):
            raise TraceError("this trace has no scope")
        larger = [sort for sort, size in sizes.items() if size > self.scope.as_dict().get(sort, 0)]
        if larger:
            wanted = ",".join(str(sizes.get(s, 1)) for s in ("Proc", "Page", "Frame", "Pin", "Slot"))
            raise TraceError(f"this trace has more elements than there are here: --scope {wanted}")
        trace = from_json(data, "this file", lambda kernel: self.system, formula_of)
        steps = [self._padded(step) for step in trace.steps]
        full = Interpreter(trace.system, trace.scope)
        if trace.states[0] != full.initial():
            raise TraceError("this trace does not begin in the initial state")
        path = [as_step(step) for step in steps]
        self.trace(path)
        return path

    def _padded(self, step: Instance) -> Instance:
        """The step in this scope, which may have more pages than that of its trace."""
        values = []
        for param in step.rule.params:
            value = step.as_dict[param.name]
            if param.over is not None:
                value = (*value, *(0 for _ in range(self.scope.size(param.over) - len(value))))
            values.append((param.name, value))
        return Instance(step.rule, tuple(values))

    def choices(self, state: State) -> Iterator[tuple[Instance, State]]:
        """The steps that may be taken, and where they lead; of those that differ in fresh elements alone the first."""
        seen = set()
        for step, after in self.interpreter.successors(state):
            fresh = {p.name for p in step.rule.params if p.fresh}
            key = (step.rule.name, tuple((name, value) for name, value in step.binding if name not in fresh))
            if key not in seen:
                seen.add(key)
                yield step, after

    def view(self, path: Sequence[Any], claim: str | None = None) -> dict[str, Any]:
        """The state at the end of the path: its picture and words, which claims hold, which steps may be taken.

        `claim`: of those that are broken the one to mark. Raises ModelError for a path that is none.
        """
        trace = self.trace(path, claim)
        state = trace.states[-1]
        broken = {i.name for i in self.broken(state)}
        shown = trace_data(trace, roomy=True)
        for earlier in shown["states"][:-1]:
            earlier["picture"] = None
        names = default_names(self.scope)
        return {
            "trace": shown, "marked": trace.claim,
            "claims": [
                {"name": i.name, "statement": i.statement, "source": domain.as_data(i.source),
                 "holds": i.name not in broken, "premise": bool(self.interpreter.evaluate(i.premise, state))}
                for i in self.claims
            ],
            "steps": [
                {**as_step(step), "who": _who(step, names), "words": _words(step, names),
                 "about": first_sentence(step.rule.about), "function": step.rule.kernel_function,
                 "changes": after != state}
                for step, after in self.choices(state)
            ],
        }

    def document(self, path: Sequence[Step]) -> str:
        """The page, which begins at the end of that path."""
        body = (
            '<a class="skip" href="#main">To the content</a>\n<header><p class="site">Explorer</p>'
            "</header>\n<main id=\"main\" tabindex=\"-1\"></main>\n"
            "<noscript><p>The explorer needs JavaScript.</p></noscript>"
        )
        data = {
            "kernel": self.kernel, "about": find_kernel(self.kernel).about, "path": list(path),
            "scope": scope_words(self.scope, self.kernel), "saved": {name: end for name, (end, _) in SAVED.items()},
            "largest": LARGEST,
        }
        return page(f"Explorer: {self.kernel}", body, data, ("stepper.js", "explorer.js"))


def as_step(step: Instance) -> Step:
    """The step as trace files have it."""
    return {"rule": step.rule.name, "binding": {n: list(v) if isinstance(v, tuple) else v for n, v in step.binding}}


def _who(step: Instance, names: Mapping[str, Sequence[str]]) -> str:
    """The process that does it, by the parameter of that name; empty if the kernel or a device does."""
    return names["Proc"][step.as_dict["p"]] if "p" in step.as_dict else ""


def _words(step: Instance, names: Mapping[str, Sequence[str]]) -> str:
    """The parameters: `process A, page x, new frame Q`."""
    words = []
    for param in step.rule.params:
        value, word = step.as_dict[param.name], SORT_WORDS.get(param.sort.name(), param.sort.name().lower())
        of = names[param.sort.name()]
        if param.over is None:
            plain = param.name in ("p", "v", "f", "k", "s")
            words.append(f"{word if plain else f'{param.name} {word}'} {of[value]}")
        elif any(value):
            over = names[param.over.name()]
            words.append(f"{param.name} " + ", ".join(f"{over[i]}→{of[x]}" for i, x in enumerate(value)))
    return ", ".join(words)


def to_text(explorer: Explorer, path: Sequence[Step]) -> str:
    """The state at the end of the path for a terminal: what is in use, the claims, the steps that may be taken."""
    trace = explorer.trace(path)
    graphs = state_graphs(trace)
    told = explorer.view(path)
    lines = [f"{explorer.kernel} after {len(path)} steps; {scope_words(explorer.scope, explorer.kernel)}", ""]
    lines += [line.rstrip() for line in state_lines(graphs[-1], graphs[max(len(graphs) - 2, 0)])]
    broken = [c for c in told["claims"] if not c["holds"]]
    lines += ["", *(f"violated: {c['name']}: {c['statement']}" for c in broken), *["Every claim holds."] * (not broken)]
    lines += ["", "Steps from here"]
    lines += [f"  {s['rule']:22} {s['words']}: {s['about']}" for s in told["steps"] if s["changes"]]
    return "\n".join(lines) + "\n"


# The server

class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            # Waitress does not expect it of an address like http://[::1, nor of a length of thousands of digits.
            raise ParsingError(str(error)) from error


class _Refusal(ErrorTask):  # type: ignore[misc]
    """The answer to what never becomes a request, in the form of all others."""

    def execute(self) -> None:
        refused = self.request.error
        body = _error(f"{refused.reason}: {refused.body}")
        self.status = f"{refused.code} {refused.reason}"
        self.response_headers.extend(_headers("application/json", body))
        self.content_length = len(body)
        self.set_close_on_finish()
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. Its `last_activity` is when it was made or last answered, whatever was said since."""

    parser_class = _Parser
    error_task_class = _Refusal
    last_activity: float

    def __init__(self, server: Any, *args: Any, **named: Any) -> None:
        super().__init__(server, *args, **named)
        others = [c for c in server.active_channels.values() if c is not self and not c.requests]
        if others and len(server.active_channels) > CONNECTIONS:
            min(others, key=lambda c: c.last_activity).handle_close()

    def handle_read(self) -> None:
        before = self.last_activity
        super().handle_read()
        if not self.requests:
            self.last_activity = before


class _Refused(Exception):
    """An answer other than 200: (status, one line)."""


class _Server:
    """Answers in the thread that calls `serve`, as z3 wants it; another waits for what the connections say."""

    def __init__(self, explorer: Explorer, path: Sequence[Step], port: int) -> None:
        self.explorer = explorer
        self.token = secrets.token_urlsafe(24)
        self.document = explorer.document(path).encode()
        listening = socket.create_server(("127.0.0.1", port))
        self.port: int = listening.getsockname()[1]
        self._open: dict[int, Any] = {}
        self._asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._ended = False
        self._listener: Any = create_server(
            self._application, self._open, sockets=[listening], threads=0, ident="", log_socket_errors=False,
            max_request_header_size=HEADERS, max_request_body_size=LARGEST + 1, channel_timeout=SECONDS,
            cleanup_interval=1, connection_limit=2 * CONNECTIONS, asyncore_use_poll=True,
        )
        self._listener.channel_class = _Channel
        self._listener.add_task = self._asked.put
        # What it warns of, as that a request has to wait, is of no use to who reads the terminal.
        logging.getLogger("waitress").setLevel(logging.ERROR)

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        wasyncore.close_all(self._open, ignore_all=True)

    @property
    def hosts(self) -> tuple[str, str]:
        return f"127.0.0.1:{self.port}", f"localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.hosts[0]}/?token={self.token}"

    @cached_property
    def facts(self) -> bytes:
        return facts_page().encode()

    def serve(self) -> None:
        """Answer until interrupted, in the main thread. Raises KeyboardInterrupt then."""
        waiting = threading.Thread(target=self._listener.run, daemon=True)
        waiting.start()
        # Garbage may hold terms: the other thread must not free them while z3 is at work in this one.
        gc.freeze()
        gc.disable()
        before = self._take_signals()
        try:
            while not self._ended:
                if (asked := self._asked.get()) is not None:
                    asked.service()
                    gc.collect()
            raise KeyboardInterrupt
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            gc.enable()
            gc.unfreeze()
            self._listener.trigger.pull_trigger(partial(wasyncore.close_all, self._open, ignore_all=True))
            waiting.join(SECONDS)

    def _take_signals(self) -> dict[signal.Signals, Any]:
        """Have what interrupts end the server after the answer that is being made; once more, and it ends that too.

        Gives the handlers there were. z3's objects are not made for exceptions at any place: one that is being freed
        swallows them, one that is being made is freed without having been counted, and the process crashes.
        """
        before = {
            number: handler for number in (signal.SIGINT, signal.SIGTERM)
            if (handler := signal.getsignal(number)) is signal.default_int_handler
        }

        def end(*_: object) -> None:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._ended = True
            self._asked.put(None)

        for number in before:
            signal.signal(number, end)
        return before

    def _application(self, environ: Mapping[str, Any], start: Callable[..., Any]) -> list[bytes]:
        """Answer a request, as WSGI has it."""
        method, status = environ["REQUEST_METHOD"], 200
        extra = []
        try:
            self._known(environ)
            if method in ("GET", "HEAD"):
                kind, body = self._get(environ)
            elif method == "POST":
                kind, body = self._post(environ)
            else:
                extra.append(("Allow", "GET, HEAD, POST"))
                raise _Refused(405, "a request is GET, HEAD or POST")
        except _Refused as refused:
            status, kind, body = refused.args[0], "application/json", _error(refused.args[1])
        except ModelError as error:
            status, kind, body = 400, "application/json", _error(str(error))
        except RecursionError:
            status, kind, body = 400, "application/json", _error("the request is nested too deeply")
        except Exception as error:
            # Whatever it is, who asked is told, and the next is answered.
            status, kind, body = 500, "application/json", _error(f"internal error: {type(error).__name__}: {error}")
        start(f"{status} {HTTPStatus(status).phrase}", [*_headers(kind, body), *extra])
        return [] if method == "HEAD" else [body]

    def _known(self, environ: Mapping[str, Any]) -> None:
        """It is asked by a page of its own, under its own name: another name may have been made to lead here."""
        if environ.get("HTTP_HOST") not in self.hosts:
            raise _Refused(403, "this is not the host that was asked for")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and origin not in {f"http://{host}" for host in self.hosts}:
            raise _Refused(403, f"no answer for pages of {origin}")

    def _expect_token(self, given: str) -> None:
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            raise _Refused(403, "the token is missing or wrong: use the address that was printed")

    def _get(self, environ: Mapping[str, Any]) -> tuple[str, bytes]:
        place = environ["PATH_INFO"]
        if place == "/":
            self._expect_token(parse_qs(environ["QUERY_STRING"]).get("token", [""])[0])
            return "text/html", self.document
        name = place.removeprefix("/")
        if name == domain.PAGE and domain.text():
            return "text/html", self.facts
        if name not in ASSETS:
            raise _Refused(404, "there is no such page")
        return ASSETS[name], (WEB / name).read_bytes()

    def _post(self, environ: Mapping[str, Any]) -> tuple[str, bytes]:
        self._expect_token(environ.get("HTTP_X_TOKEN", ""))
        try:
            asked = json_text.parsed(environ["wsgi.input"].read())
        except ValueError as error:
            raise _Refused(400, f"the request is not JSON: {error}") from error
        place = environ["PATH_INFO"]
        if place == "/load":
            return _json({"path": self.explorer.path_of(asked)})
        if not isinstance(asked, dict) or not isinstance(asked.get("path"), list):
            raise _Refused(400, "the request has no path")
        claim = asked.get("claim") if isinstance(asked.get("claim"), str) else None
        if place == "/view":
            return _json(self.explorer.view(asked["path"], claim))
        if place.startswith("/save/") and (name := place.removeprefix("/save/")) in SAVED:
            return "text/plain", SAVED[name][1](self.explorer.trace(asked["path"], claim)).encode()
        raise _Refused(404, f"there is no {place}{nearest(place, ['/view', '/load', *map('/save/'.__add__, SAVED)])}")


def _headers(kind: str, body: bytes) -> list[tuple[str, str]]:
    """The headers that every answer has."""
    return [
        ("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
        ("Content-Security-Policy", _POLICY), ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
    ]


def _json(data: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(data).encode()


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


def server(explorer: Explorer, path: Sequence[Step] = (), port: int = 0) -> _Server:
    """A server of the explorer on 127.0.0.1, on any free port if that is 0. Raises ModelError, OSError."""
    explorer.trace(path)
    try:
        return _Server(explorer, path, port)
    except (OSError, OverflowError) as error:
        raise ModelError(f"cannot listen on port {port}: {error}") from error
