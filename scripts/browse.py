"""Check every page of the built site in a headless browser, at desktop and phone width.

    python scripts/browse.py SITE [PICTURES]

Findings: a page wider than its window, a missing picture, an error on the console, a file that is missing or loaded
from another site, a broken link within the site, and a search without results. ``PICTURES`` is a folder for a
screenshot of each page at each width. Needs ``pip install playwright``, and Chromium or Chrome on the path.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SEARCHES = ("tutorial", "monitor", "energy", "ONNX", "variable length", "LIF", "GPU")
MISSING = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Quiet(SimpleHTTPRequestHandler):
    """File server without a log."""

    def log_message(self, *_: Any) -> None:
        """Do nothing."""


def open_page(browser: Browser, home: str, found: list[str]) -> Page:
    """Open a tab that appends errors to ``found``."""
    page = browser.new_page()
    page.set_default_timeout(300_000)  # screenshots are slow on a busy machine

    def tell(text: str) -> None:
        found.append(f"{page.url.removeprefix(home)}: {text}")

    page.on("console", lambda m: m.type == "error" and tell(f"console: {m.text}"))
    page.on("pageerror", lambda error: tell(f"script: {error}"))
    # The search loads the pages it found; leaving it aborts pending requests, which is no error.
    page.on("requestfailed", lambda r: r.failure == "net::ERR_ABORTED" or tell(f"not loaded ({r.failure}): {r.url}"))
    page.on("response", lambda r: r.status >= 400 and tell(f"{r.status}: {r.url}"))
    page.on("request", lambda r: r.url.startswith((home, "data:", "blob:")) or tell(f"from elsewhere: {r.url}"))
    return page


def look(page: Page, home: str, name: str, pictures: Path | None, found: list[str]) -> set[str]:
    """Open a page, check it at every width, and return its links."""
    page.goto(home + name, wait_until="load")
    for width, (wide, high) in WIDTHS.items():
        page.set_viewport_size({"width": wide, "height": high})
        if (more := page.evaluate(WIDE)) > 0:
            found.append(f"{name}: on a {width} {more} pixels wider than the window")
        if pictures:
            file = pictures / width / f"{name.removesuffix('.html')}.png"
            page.screenshot(path=file, full_page=True)
    found.extend(f"{name}: no picture at {source}" for source in page.evaluate(MISSING))
    return set(page.evaluate("[...document.links].map(a => a.href)"))


def dead(site: Path, home: str, links: set[str]) -> list[str]:
    """Return findings for links within the site that have no file or no such anchor."""
    found = []
    for link in sorted(link for link in links if link.startswith(home)):
        name, _, place = unquote(link.removeprefix(home)).partition("#")
        file = site / (name.partition("?")[0] or "index.html")
        if not file.is_file():
            found.append(f"{link.removeprefix(home)} leads nowhere")
        elif place and not re.search(rf'\bid="{re.escape(place)}"', file.read_text()):
            found.append(f"{link.removeprefix(home)}: no such place in the page")
    return found


def main() -> int:
    """Check all pages; return 1 with findings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("pictures", type=Path, nargs="?")
    options = parser.parse_args()
    site = options.site.resolve()
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        parser.error(f"needs one of {', '.join(BROWSERS)} on the path")
    names = [p.relative_to(site).as_posix() for p in sorted(site.rglob("*.html"))]
    names = [name for name in names if not name.startswith(("_modules/", "_static/"))]
    if "index.html" not in names:
        parser.error(f"{site} holds no index.html: build it by 'sphinx-build docs {options.site}'")

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_address[1]}/"
    found: list[str] = []
    links: set[str] = set()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = open_page(browser, home, found)
        for name in names:
            links |= look(page, home, name, options.pictures, found)
        for words in SEARCHES:
            page.goto(f"{home}search.html?q={words}")
            try:
                page.wait_for_selector("#search-results li a", timeout=30_000)
            except Exception:
                found.append(f"search: nothing for {words!r}")
        browser.close()
    server.shutdown()
    found += dead(site, home, links)
    print("\n".join(found) or f"{len(names)} pages, {len(links)} links: nothing found")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
