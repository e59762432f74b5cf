"""The documentation as a web site, in a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pages import ROOT

pytestmark = pytest.mark.slow  # mkdocs takes half a minute

#: Faults of a page: parts beyond the screen that do not scroll, and images not found.
FAULTS = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (part) => part.closest('.md-content') &&
    (getComputedStyle(part).overflowX !== 'visible' || scrolls(part.parentElement));
  const parts = (selector) => [...document.querySelectorAll('.md-content ' + selector)];
  return [
    ...parts('*').filter((part) =>
      part.getBoundingClientRect().right > width + 1 && !scrolls(part)),
    ...parts('img').filter((image) => !image.naturalWidth),
  ].map((part) => part.outerHTML.slice(0, 100));
}"""

#: Relative luminances, as in WCAG, of each equation and of the page.
LUMINANCES = """() => {
  const luminance = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
    const value = part / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }).reduce((sum, value, band) => sum + value * [0.2126, 0.7152, 0.0722][band], 0);
  return [...document.querySelectorAll('math')].map((equation) => [
    luminance(getComputedStyle(equation).color),
    luminance(getComputedStyle(document.body).backgroundColor),
  ]);
}"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[tuple[Path, str]]:
    """The folder of the site, and its address; built only where there is a browser."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(build, cwd=ROOT, env=quiet, check=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("width", [1280, 400])
def test_pages_fit_the_screen(site: tuple[Path, str], chromium: Any, width: int) -> None:
    folder, address = site
    page = chromium.new_page(viewport={"width": width, "height": 900})
    pages = sorted(folder.rglob("index.html"))
    assert len(pages) > 30
    for each in pages:
        page.goto(address + str(each.parent.relative_to(folder)) + "/")
        assert page.title().endswith("nearfar")
        assert page.evaluate(FAULTS) == [], (each.parent.name, width)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_equations_are_readable(site: tuple[Path, str], chromium: Any, scheme: str) -> None:
    page = chromium.new_page(color_scheme=scheme)
    page.goto(site[1] + "method/")
    luminances = page.evaluate(LUMINANCES)
    assert len(luminances) == 3
    for pair in luminances:
        assert (max(pair) + 0.05) / (min(pair) + 0.05) > 7, pair
    boxes = {
        name: page.locator(f"math {name}").first.bounding_box()
        for name in ("mi", "mfrac", "munderover > mi", "munderover > mo")
    }
    assert boxes["mfrac"]["height"] > 2 * boxes["mi"]["height"], "a fraction has two lines"
    limit = boxes["munderover > mi"]
    assert limit["y"] + limit["height"] <= boxes["munderover > mo"]["y"], "limits touch the sum"
    page.close()
