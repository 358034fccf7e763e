"""The document on adding a loss is followed to the letter."""

from __future__ import annotations

import json

import pytest

from tests.readme.followed import Copy, changed
from tests.toolbox import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SCRATCH = [*TINY, "--init-from", "scratch", "--eval-every", "0", "--log-every", "1"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Copy("adding_a_loss.md", tmp_path_factory.mktemp("loss"))


def test_two_files_and_one_entry(copy):
    assert copy.written == ["ssl_lt/losses/poly.py", "tests/losses/test_poly.py"]
    assert copy.changed == ["ssl_lt/finetune/registry.py"]
    assert len((copy.place / copy.written[0]).read_text().splitlines()) <= 60


def test_it_passes_the_tests_of_all_losses_and_trains_with_its_flag(copy):
    """And its kernels are recorded."""
    counts = "tests/engine/test_step_counts.py"
    files = ["tests/losses/test_poly.py", "tests/finetune/test_registry.py", counts]
    chosen = "poly or equation or recorded"
    poly = ["finetune", "--loss", "poly"]
    said = copy.pass_and_succeed(
        [[*files, "-k", chosen, "--update-counts"], [counts, "-k", "poly or recorded"]],
        [*poly, *SCRATCH, "--epsilon", "0", "--run-dir", "none"],
        [*poly, *SCRATCH, "--epsilon", "0.5", "--run-dir", "half"],
        [*poly, "--help-all"],
    )

    def first_loss(name):
        assert (copy.place / name / "results.json").is_file()
        return json.loads((copy.place / name / "metrics.jsonl").read_text().splitlines()[0])["loss"]

    assert first_loss("half") > first_loss("none") + 0.1
    assert "--epsilon" in said


def test_a_document_that_is_out_of_date_is_found():
    assert changed("a\nb\n", " a\n+c\n") == "a\nc\nb\n"
    assert changed("a\nb\n", "-a\n+c\n") == "c\nb\n"
    with pytest.raises(AssertionError, match="not once in the file: 'gone'"):
        changed("a\nb\n", " gone\n+c\n")
