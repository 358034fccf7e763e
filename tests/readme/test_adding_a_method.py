"""The document on adding a pretraining method is followed to the letter."""

from __future__ import annotations

import pytest

from tests.readme.followed import Copy
from tests.toolbox import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Copy("adding_a_method.md", tmp_path_factory.mktemp("method"))


def test_two_files_and_one_entry(copy):
    assert copy.written == ["ssl_lt/pretrain/align.py", "tests/pretrain/test_align.py"]
    assert copy.changed == ["ssl_lt/pretrain/registry.py"]


def test_it_passes_the_tests_of_all_methods_and_trains_with_its_flag(copy):
    """Alone and with all plug-ins, and its kernels are recorded."""
    counts = "tests/engine/test_step_counts.py"
    files = ["tests/pretrain/test_align.py", "tests/pretrain/test_combinations.py", counts]
    chosen = "test_align.py or align] or align+bcl+gh] or step_counts and align or recorded"
    words = ["--method", "align", "--align.weight", "0.5", "--plugins", "bcl", "--knn-every", "0"]
    said = copy.pass_and_succeed(
        [[*files, "-k", chosen, "--update-counts"], [counts, "-k", "align or recorded"]],
        ["pretrain", *TINY, *words, "--run-dir", "run"],
        ["pretrain", "--help-all"],
    )
    assert "align.weight: 0.5" in (copy.place / "run" / "config.yaml").read_text()
    assert "--align.weight" in said
