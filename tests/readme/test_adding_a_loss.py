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


def test_it_passes_the_tests_of_all_losses(copy):
    copy.pytest(
        "tests/losses/test_poly.py", "tests/finetune/test_registry.py", "-k", "poly or equation"
    )


def test_its_kernels_are_recorded(copy):
    copy.pytest("tests/engine/test_step_counts.py", "--update-counts", "-k", "poly or recorded")
    copy.pytest("tests/engine/test_step_counts.py", "-k", "poly or recorded")


def test_it_trains_with_its_flag(copy):
    def first_loss(name, *words):
        copy.run("-m", "ssl_lt", "finetune", *SCRATCH, *words, "--run-dir", name)
        assert (copy.place / name / "results.json").is_file()
        return json.loads((copy.place / name / "metrics.jsonl").read_text().splitlines()[0])["loss"]

    cross_entropy = first_loss("none", "--loss", "poly", "--epsilon", "0")
    assert first_loss("half", "--loss", "poly", "--epsilon", "0.5") > cross_entropy + 0.1
    assert "--epsilon" in copy.run("-m", "ssl_lt", "finetune", "--loss", "poly", "--help-all")


def test_a_document_that_is_out_of_date_is_found():
    assert changed("a\nb\n", " a\n+c\n") == "a\nc\nb\n"
    assert changed("a\nb\n", "-a\n+c\n") == "c\nb\n"
    with pytest.raises(AssertionError, match="not once in the file: 'gone'"):
        changed("a\nb\n", " gone\n+c\n")
