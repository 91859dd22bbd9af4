"""A headless Chromium for the tests of pages, driven by Playwright; whatever a page asks of the network is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from playwright.sync_api import BrowserContext, CDPSession, ConsoleMessage, Route, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60_000.0
"""Milliseconds for an answer, on a machine with much else to do."""
OWN = ("data:", "file:", "about:", "blob:")


def browser_path() -> str | None:
    """The first Chromium on the PATH; Playwright's own builds would have to be downloaded."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page in one browser."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        """What the page threw or logged as an error."""
        self.requests: list[str] = []
        """Addresses that the page asked for, besides itself and data."""
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(executable_path=browser_path(), timeout=PATIENCE)
        except BaseException:
            self._playwright.stop()
            raise
        self._context: BrowserContext | None = None

    def screen(self, width: int, height: int, scale: float = 1, touch: bool = False, dark: bool = False) -> None:
        """Size of the window in CSS pixels, device pixels per CSS pixel, and the colours that the person prefers."""
        if self._context is not None:
            self._context.close()
        self._context = self._browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=scale, has_touch=touch, is_mobile=touch,
            color_scheme="dark" if dark else "light", service_workers="block",
        )  # fmt: skip
        self._context.set_default_timeout(PATIENCE)
        self._context.route("**/*", self._judge)
        self._context.route_web_socket("**/*", lambda socket: self.requests.append(socket.url))
        self.page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)

    def _judge(self, route: Route) -> None:
        if route.request.url.startswith(OWN):
            route.continue_()
            return
        self.requests.append(route.request.url)
        route.abort()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def open(self, page: Path) -> None:
        """Show a file and wait until its pictures are there."""
        self.page.goto(page.resolve().as_uri(), wait_until="load")

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression; promises are waited for."""
        return self.page.evaluate(expression)

    def press(self, key: str, shift: bool = False) -> None:
        """A key, as a keyboard gives it: ArrowLeft, Home, 2, s."""
        self.page.keyboard.press(f"Shift+{key}" if shift else key)

    def drag(self, *points: tuple[float, float], touch: bool = False) -> None:
        """Press at the first point, move through the others, let go; in CSS pixels of the window."""
        if touch:
            self._swipe(points)
            return
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point)
        self.page.mouse.up()

    def _swipe(self, points: tuple[tuple[float, float], ...]) -> None:
        """Playwright has taps only; a finger that moves is Chromium's own command."""
        session, fingers = self._protocol(), [[{"x": x, "y": y}] for x, y in points]
        for kind, places in zip(
            ("touchStart", *["touchMove"] * (len(points) - 1), "touchEnd"), (*fingers, []), strict=True
        ):
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    def _protocol(self) -> CDPSession:
        """Chromium's own commands."""
        return self.page.context.new_cdp_session(self.page)

    def accessible(self) -> list[dict[str, Any]]:
        """The nodes that are told to those who do not see the page."""
        return list(self._protocol().send("Accessibility.getFullAXTree")["nodes"])

    def screenshot(self, path: Path, whole: bool = True) -> Path:
        """A PNG of the page, or of the window."""
        self.page.screenshot(path=path, full_page=whole)
        return path

    def close(self) -> None:
        """End the browser and all its processes."""
        self._browser.close()
        self._playwright.stop()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
