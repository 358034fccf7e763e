"""A headless Chromium of the system, asked what it makes of a page."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# The page is looked at in a frame, whose width may be smaller than any window's. Errors of the
# page itself are heard before it loads; what it fetches is in its list of resources.
_PROBE = """<!doctype html><title>waiting</title><body style="margin:0"><script>
const frame = document.createElement("iframe");
frame.style = "border:0;height:3000px;width:WIDTHpx";
frame.onload = () => setTimeout(() => {
  const page = frame.contentDocument, view = frame.contentWindow;
  page.querySelectorAll("details").forEach(each => each.open = true);
  const box = each => { const b = each.getBoundingClientRect(); return [b.width, b.height] };
  const all = words => [...page.querySelectorAll(words)];
  const text = JSON.stringify({
    width: page.scrollingElement.scrollWidth,
    tables: all("table").map(box),
    drawings: all("figure > svg").map(box),
    images: all("img").map(e => [e.complete ? e.naturalWidth : 0, ...box(e)]),
    inner: all("svg image").map(box),
    spill: all("figure > svg, img, .tile, h1, h2, h3").map(
      e => e.getBoundingClientRect().right).reduce((a, b) => Math.max(a, b), 0),
    paper: view.getComputedStyle(page.body).backgroundColor,
    ink: view.getComputedStyle(page.body).color,
    fetched: view.performance.getEntriesByType("resource").map(e => e.name)
      .filter(name => !name.startsWith("data:")),
  });
  const out = document.createElement("pre");
  out.id = "seen"; out.textContent = text; document.body.replaceChildren(out);
}, 300);
frame.src = "PAGE";
document.body.append(frame);
</script>"""


@dataclass(frozen=True)
class Seen:
    """What the page is like at one width; sizes are (width, height) in pixels."""

    facts: dict[str, Any]
    console: list[str]

    def __getattr__(self, name: str) -> Any:
        return self.facts[name]


def find_chromium() -> str:
    """The program; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium on PATH: apt-get install chromium, and this test runs")


def look(page: Path, *, width: int, scheme: str = "light") -> Seen:
    """Opens a page with no network and measures it."""
    probe = page.with_name(f"probe-{width}-{scheme}.html")
    probe.write_text(_PROBE.replace("WIDTH", str(width)).replace("PAGE", page.name))
    command = [
        find_chromium(),
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND"),
        f"--user-data-dir={page.parent / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
        *("--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom"),
        probe.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"the page was not measured: {done.stderr[-2000:]}"
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Seen(json.loads(html.unescape(found[1])), console)
