from __future__ import annotations

import json

import pytest

from ssl_lt.core.errors import ConfigError, DiskError
from ssl_lt.engine.checkpoints.run_folder import (
    append_line,
    create_run_folder,
    open_run_folder,
    trim_lines,
)


def test_an_existing_folder_is_never_overwritten(tmp_path):
    folder = create_run_folder(tmp_path / "a" / "run")
    (folder.path / "precious").write_text("x")
    with pytest.raises(ConfigError, match="--resume"):
        create_run_folder(folder.path)
    assert (folder.path / "precious").read_text() == "x"


def test_a_name_under_which_no_weights_can_be_read_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--run-dir: .*r\\xe9n is no UTF-8"):
        create_run_folder(tmp_path / "r\udce9n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="file"):
        create_run_folder(tmp_path / "file" / "run")


def test_a_folder_without_configuration_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        open_run_folder(tmp_path)


def test_lines_after_the_checkpoint_and_half_lines_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3, 4):
        append_line(path, {"step": step})
    with path.open("a") as file:
        file.write('{"step": 5, "lo')
    trim_lines(path, last_step=3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    trim_lines(tmp_path / "none", last_step=3)
    assert not (tmp_path / "none").exists()


def test_a_line_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(DiskError, match=r"metrics\.jsonl"):
        append_line(tmp_path / "metrics.jsonl", {"step": 1})
