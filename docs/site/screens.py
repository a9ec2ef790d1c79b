"""Take pictures of the site and of a verdict's page with Chromium, into docs/images: `make pictures`.

They show what a reader sees: the first page light and dark, a search, the reference of settings, and a verdict.
"""

import asyncio
import base64
import contextlib
import functools
import http.server
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import aiohttp

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ROOT / "docs" / "images"
SITE: Final = ROOT / "dist" / "site"
MOST: Final = 200_000  # bytes of a picture: it is in every clone
PATIENCE: Final = 60.0
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")


class Screen(NamedTuple):
    """A page, and the window that it is seen in."""

    page: str
    width: int = 1280
    height: int = 760
    dark: bool = False
    until: str = "body"
    """What is there when the page is ready, as a CSS selector."""


SCREENS: Final = {
    "site": Screen("index.html"),
    "site-dark": Screen("index.html", dark=True),
    "site-search": Screen("index.html?q=dead+letter", height=620, until=".md-search-result__item"),
    "site-configuration": Screen("configuration.html#sink-with-type-s3"),
    "verdict": Screen("verdict.html", 1000, 900),
}
"""By name of the picture."""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder as a site of this machine: a search needs one."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


class Browser:
    """Chromium without a window, told what to do by its DevTools protocol (chromedevtools.github.io)."""

    def __init__(self, program: str) -> None:
        self._program, self._number = program, 0

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self._process = await asyncio.create_subprocess_exec(
            *(self._program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            *("--remote-debugging-port=0", f"--user-data-dir={self._folder.name}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        told = Path(self._folder.name, "DevToolsActivePort")
        async with asyncio.timeout(PATIENCE):
            while not told.exists() or not told.read_text().count("\n"):
                await asyncio.sleep(0.1)
        self._session = aiohttp.ClientSession(f"http://127.0.0.1:{told.read_text().splitlines()[0]}")
        async with self._session.get("/json/list") as answer:
            (page,) = [each for each in await answer.json() if each["type"] == "page"]
        self._page = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        return self

    async def do(self, method: str, **parameters: object) -> Any:
        """Ask for one thing, and answer what came of it."""
        self._number += 1
        await self._page.send_json({"id": self._number, "method": method, "params": parameters})
        async with asyncio.timeout(PATIENCE):
            while (said := await self._page.receive_json()).get("id") != self._number:
                pass
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        return said["result"]

    async def take(self, url: str, screen: Screen) -> bytes:
        """A page as PNG, when what it waits for is there."""
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=screen.width,
            height=screen.height,
            deviceScaleFactor=1,
            mobile=False,
        )
        mode = {"name": "prefers-color-scheme", "value": "dark" if screen.dark else "light"}
        await self.do("Emulation.setEmulatedMedia", features=[mode])
        await self.do("Page.navigate", url="about:blank")  # the page before must not be taken for this one
        await self.do("Page.navigate", url=f"{url}/{screen.page}")
        found = f"document.querySelector({json.dumps(screen.until)})"
        there = f"location.href != 'about:blank' && document.readyState == 'complete' && !!{found}"
        async with asyncio.timeout(PATIENCE):
            while not (await self.do("Runtime.evaluate", expression=there))["result"].get("value"):
                await asyncio.sleep(0.2)
        await asyncio.sleep(1)  # what fades in has done so
        return base64.b64decode((await self.do("Page.captureScreenshot", format="png"))["data"])

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        self._process.terminate()
        await self._process.wait()
        self._folder.cleanup()


def chromium() -> str | None:
    """The browser of this machine."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def main() -> int:
    """Take them all; answer 1 where no browser is or the site was not built, and say what is missing."""
    browser = chromium()
    if browser is None or not SITE.is_dir():
        missing = "no Chromium here (Debian: apt-get install chromium)" if browser is None else "make site first"
        print(f"pictures of the site stay as they are: {missing}", file=sys.stderr)
        return 1
    return 1 if asyncio.run(take_all(browser)) else 0


async def take_all(program: str) -> list[str]:
    """Write them; answers which are too large."""
    large = []
    with served(SITE) as url:
        for name, screen in SCREENS.items():
            async with Browser(program) as browser:  # a new one: the site remembers light or dark
                made = await browser.take(url, screen)
                (IMAGES / f"{name}.png").write_bytes(made)
                print(f"{name}.png: {len(made):,} bytes", file=sys.stderr)
                large += [name] if len(made) > MOST else []
    return large


if __name__ == "__main__":
    sys.exit(main())
