"""A headless Chromium for the tests of pages, driven through a pipe by its DevTools protocol; no port, no network."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60.0
"""Seconds for an answer, on a machine with much else to do."""


def browser_path() -> str | None:
    """The first Chromium on the PATH."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


_START = (
    "import fcntl, os, sys\n"
    "ours = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]\n"
    "for number, pipe in enumerate(ours, 3): os.dup2(pipe, number)\n"
    "os.execv(sys.argv[3], sys.argv[3:])"
)
"""Becomes the browser, which wants its pipe as file descriptors 3 and 4."""


class Browser:
    """One page in one browser; everything that a page asks of the network is counted and refused."""

    def __init__(self, profile: Path):
        """profile: an empty folder for the browser's own files."""
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        flags = [
            "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
            "--disable-gpu", "--no-default-browser-check", "--disable-extensions", "--disable-background-networking",
            "--mute-audio", "--disable-dev-shm-usage", "--hide-scrollbars", "about:blank",
        ]  # fmt: skip
        sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), str(browser_path()), *sandbox, *flags],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self._number = 0
        self._session: str | None = None
        self.errors: list[str] = []
        """What the page threw or logged as an error."""
        self.requests: list[str] = []
        """Addresses that the page asked for, besides itself and data."""
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, answered."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            told = self._receive()
            if told.get("id") == self._number:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']}")
                return dict(told.get("result", {}))

    def _receive(self) -> dict[str, Any]:
        """The next message; events of interest are noted."""
        text = bytearray()
        while (byte := self._in.read1(1)) != b"\0":  # type: ignore[attr-defined]
            if not byte:
                raise RuntimeError("the browser ended")
            text += byte
        told: dict[str, Any] = json.loads(text)
        self._note(told.get("method", ""), told.get("params", {}))
        return told

    def _note(self, method: str, facts: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = facts["exceptionDetails"]
            self.errors.append(str(details.get("exception", {}).get("description", details.get("text"))))
        elif method == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.errors.append(str(facts["entry"]["text"]))
        elif method == "Network.requestWillBeSent" and not facts["request"]["url"].startswith(
            ("data:", "file:", "about:")
        ):
            self.requests.append(str(facts["request"]["url"]))

    def screen(self, width: int, height: int, scale: float = 1, touch: bool = False, dark: bool = False) -> None:
        """Size of the window in CSS pixels, device pixels per CSS pixel, and the colours that the person prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=touch
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path) -> None:
        """Show a file and wait until its pictures are there."""
        self.call("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + PATIENCE
        while self.value("document.readyState") != "complete" or self.value("location.protocol") != "file:":
            if time.monotonic() > end:
                raise RuntimeError(f"{page} did not load; the page said {self.errors}")
            time.sleep(0.05)

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def press(self, key: str, shift: bool = False) -> None:
        """A key, as a keyboard gives it: ArrowLeft, Home, 2, s."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}
        code = f"Digit{key}" if key.isdigit() else f"Key{key.upper()}" if key.isalpha() and len(key) == 1 else key
        number = codes.get(key) or ord(key.upper())
        facts = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def drag(self, *points: tuple[float, float], touch: bool = False) -> None:
        """Press at the first point, move through the others, let go; in CSS pixels of the window."""
        kinds = ["touchStart", "touchMove", "touchEnd"] if touch else ["mousePressed", "mouseMoved", "mouseReleased"]
        for step, (x, y) in enumerate([*points, points[-1]]):
            kind = kinds[0 if step == 0 else 2 if step == len(points) else 1]
            if touch:
                self.call(
                    "Input.dispatchTouchEvent", type=kind, touchPoints=[] if step == len(points) else [{"x": x, "y": y}]
                )
            else:
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def screenshot(self, path: Path, whole: bool = True) -> Path:
        """A PNG of the page, or of the window."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def close(self) -> None:
        """End the browser and all its processes."""
        self._in.close()
        self._out.close()  # at the end of its pipe the browser ends by itself
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def browsers(profile: Path) -> Iterator[Browser]:
    """For a fixture: one browser, closed at the end."""
    with Browser(profile) as browser:
        yield browser
