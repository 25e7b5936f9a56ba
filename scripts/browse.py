"""Looks at every page of the built site in a headless browser, as wide as a desktop's and as a phone's.

    python scripts/browse.py SITE [PICTURES]

Findings: a page wider than its window, a picture that is missing, an error on the console, a file that is loaded from
elsewhere or not there, a link within the site that leads nowhere, and a search that finds nothing. ``PICTURES`` is a
folder for a picture of each page at each width. Needs ``pip install playwright``, and Chromium or Chrome on the path.
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
    """Serves files and says nothing."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def open_page(browser: Browser, home: str, found: list[str]) -> Page:
    """A tab that writes down what it stumbles over."""
    page = browser.new_page()
    page.set_default_timeout(300_000)  # a busy machine takes its time for a picture

    def tell(what: str) -> None:
        found.append(f"{page.url.removeprefix(home)}: {what}")

    page.on("console", lambda m: m.type == "error" and tell(f"console: {m.text}"))
    page.on("pageerror", lambda error: tell(f"script: {error}"))
    # The search reads the pages it has found; leaving it stops those that are still under way, which is no fault.
    page.on("requestfailed", lambda r: r.failure == "net::ERR_ABORTED" or tell(f"not loaded ({r.failure}): {r.url}"))
    page.on("response", lambda r: r.status >= 400 and tell(f"{r.status}: {r.url}"))
    page.on("request", lambda r: r.url.startswith((home, "data:", "blob:")) or tell(f"from elsewhere: {r.url}"))
    return page


def look(page: Page, home: str, name: str, pictures: Path | None, found: list[str]) -> set[str]:
    """Opens a page and looks at it at every width; returns its links."""
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
    """Those links within the site that have no file, or no such place in it."""
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
    """Looks at all pages; 1 if something is found."""
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
