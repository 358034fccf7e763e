"""The documents as a site: built without a warning, each document in it, names of Python there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_lt

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site") / "site"
    words = ["-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_document_is_a_page(site):
    for document in (ROOT / "docs").rglob("*.md"):
        name = document.relative_to(ROOT / "docs").with_suffix("")
        page = site / ("index.html" if name.name == "index" else f"{name}/index.html")
        assert page.stat().st_size > 5_000, page


def test_the_reference_has_what_is_imported(site):
    page = (site / "api" / "index.html").read_text()
    headings = set(re.findall(r'<h\d id="ssl_lt\.[\w.]*?(\w+)"', page))
    public = {*ssl_lt.__all__, *ssl_lt.losses.__all__} - {"losses", "__version__"}
    returned = {"FinishedRun", "RunResult", "Evaluation", "Accuracy", "GroupAccuracy"}
    public |= returned | {"Predictions", "Embeddings"}
    assert public <= headings, public - headings


def test_notebooks_are_shown_with_what_they_print(site):
    """They run while the site is built; the rare classes gain, as the text says."""
    page = (site / "notebooks" / "own_loop" / "index.html").read_text()
    few = [float(x) for x in re.findall(r"(?:cross-entropy|logit adjustment) .*few ([\d.]+)", page)]
    assert len(few) == 2
    assert few[1] > few[0] + 0.1
    page = (site / "notebooks" / "folder_to_classifier" / "index.html").read_text()
    (right,) = re.findall(r"right: ([\d.]+) of \d+ new pictures", page)
    assert float(right) > 0.6
    assert "Warning" not in page


def test_nothing_is_fetched_from_elsewhere(site):
    """Scripts, styles and pictures of a page come with the site."""
    for page in site.rglob("*.html"):
        sources = re.findall(r'<(?:script|img)[^>]* src="([^"]+)"', page.read_text())
        sources += re.findall(r'<link[^>]* rel="stylesheet"[^>]* href="([^"]+)"', page.read_text())
        assert not [source for source in sources if source.startswith(("http", "//"))], page
