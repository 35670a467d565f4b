"""A headless Chromium that tests drive, through its debugging pipe: JSON objects with a zero byte after each."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")
SECONDS = 60


class Page:
    """A tab. What `run` evaluates may be a promise."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._said = b""
        self._asked = 0
        self._session = ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.log: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setScrollbarsHidden", hidden=True)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._asked += 1
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps({"id": self._asked, "method": method, "params": params, **session}).encode()
                 + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._asked:
                assert "error" not in answer, answer
                return answer["result"]  # type: ignore[no-any-return]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._said:
            part = os.read(self._back, 1 << 16)
            assert part, "the browser has ended"
            self._said += part
        text, _, self._said = self._said.partition(b"\0")
        told: dict[str, Any] = json.loads(text)
        params = told.get("params", {})
        if told.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        if told.get("method") == "Runtime.exceptionThrown":
            self.log.append(str(params["exceptionDetails"]))
        if told.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.log.append(params["entry"]["text"])
        return told

    def run(self, script: str) -> Any:
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until the script's value is true."""
        end = time.monotonic() + SECONDS
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def open(self, url: str, until: str = "document.readyState === 'complete'") -> None:
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=url)
        self.until(f"location.href !== 'about:blank' && {until}")

    def look(self, width: int, height: int = 900, dark: bool = False, media: str = "screen") -> None:
        """Be a screen, or paper, of that size."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode={
                "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9, "Enter": 13, "Escape": 27
            }[key])

    def picture(self, path: Path) -> None:
        data = self.ask("Page.captureScreenshot")["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A tab of a browser of its own, which ends with it."""
    theirs, to = os.pipe()
    back, ours = os.pipe()
    # Out of the way of 3 and 4, from which the browser reads and to which it writes.
    high = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (theirs, ours)]

    def connect() -> None:
        for wanted, each in zip((3, 4), high, strict=True):
            os.dup2(each, wanted)

    process = subprocess.Popen(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
         f"--user-data-dir={profile}", "--no-first-run", "about:blank"],
        pass_fds=(3, 4), preexec_fn=connect,  # noqa: PLW1509  nothing here has threads
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    for each in (theirs, ours, *high):
        os.close(each)
    try:
        yield Page(to, back)
    finally:
        os.close(to)
        os.close(back)
        process.terminate()
        process.wait(20)
