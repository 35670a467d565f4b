"""The explorer's server: requests within limits, answered one after another."""

from __future__ import annotations

import contextlib
import gc
import hmac
import json
import logging
import queue
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask

from model.blame import nearest
from model.logic import ModelError
from proofs import json_text
from proofs.pages import domain
from proofs.pages.explorer import LARGEST, SAVED, Explorer, Step
from proofs.pages.report import WEB, facts_page

HEADERS = 1 << 14
"""Bytes of a request's headers."""
SECONDS = 10
"""How long a request may take to arrive, from when its connection was made or last answered."""
CONNECTIONS = 100
"""How many may be open; of more, the one that has waited longest is closed."""
WAKE = 1.0
"""Seconds between two looks at whether the server is to end."""
ASSETS = {"style.css": "text/css", "stepper.js": "text/javascript", "explorer.js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


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
        self._before: dict[signal.Signals, Any] = {}
        self._told = -1

    def __enter__(self) -> _Server:
        # Before anybody is told the address: who knows it may end the server, which is no interrupted run.
        self._take_signals()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_signals_back()
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
        """Answer until interrupted, in the main thread."""
        waiting = threading.Thread(target=self._listener.run, daemon=True)
        waiting.start()
        # Garbage may hold terms: the other thread must not free them while z3 is at work in this one.
        gc.freeze()
        gc.disable()
        try:
            while not self._ended:
                asked = None
                # Where another thread takes a signal, this one hears of it when it wakes up.
                with contextlib.suppress(queue.Empty):
                    asked = self._asked.get(timeout=WAKE)
                if asked is not None:
                    try:
                        asked.service()
                    except OSError:
                        # Its client has gone; the others are answered.
                        asked.will_close = True
                    gc.collect()
        finally:
            gc.enable()
            gc.unfreeze()
            # What the last answer woke may have done it, and closed the pipe, before this wakes it.
            with contextlib.suppress(OSError):
                self._listener.trigger.pull_trigger(partial(wasyncore.close_all, self._open, ignore_all=True))
            waiting.join(SECONDS)

    def _take_signals(self) -> None:
        """Have what interrupts end the server after the answer that is being made; once more, and it ends that too.

        z3's objects are not made for exceptions at any place: one that is being freed swallows them, one that is being
        made is freed without having been counted, and the process crashes.
        """
        self._before = {
            number: handler for number in (signal.SIGINT, signal.SIGTERM)
            if callable(handler := signal.getsignal(number))
        }

        def end(*_: object) -> None:
            self._give_signals_back()
            self._ended = True
            self._asked.put(None)

        for number in self._before:
            signal.signal(number, end)
        # Nobody else is told, who might take it for one that waits for its handler.
        self._told = signal.set_wakeup_fd(-1)

    def _give_signals_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._told >= 0:
            signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        self._told = -1

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
        if place == "/kernel":
            return _json(self.explorer.on_kernel(asked["path"], claim))
        if place.startswith("/save/") and (name := place.removeprefix("/save/")) in SAVED:
            return "text/plain", SAVED[name][1](self.explorer.trace(asked["path"], claim)).encode()
        known = ["/view", "/load", "/kernel", *map("/save/".__add__, SAVED)]
        raise _Refused(404, f"there is no {place}{nearest(place, known)}")


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
