from __future__ import annotations

import pytest

from ssl_lt.core.disk.folders import check_replaceable, replace_dir_atomically
from ssl_lt.core.errors import ConfigError, DiskError


def test_an_older_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "a" / "out"
    for name in ("first", "second"):
        with replace_dir_atomically(target) as folder:
            (folder / name).write_text(name)
            assert not (target / name).exists()
        assert [path.name for path in target.iterdir()] == [name]
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_an_error_leaves_the_older_folder_and_nothing_else(tmp_path):
    with replace_dir_atomically(tmp_path / "out") as folder:
        (folder / "kept").touch()

    def stop():
        with replace_dir_atomically(tmp_path / "out") as folder:
            (folder / "half").touch()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "out"]


def test_a_disk_error_names_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(DiskError, match="file/out: cannot be written"),
        replace_dir_atomically(tmp_path / "file" / "out"),
    ):
        pass


def test_what_is_not_ours_is_not_replaced(tmp_path):
    for name in ("missing", "empty", "ours", "theirs"):
        folder = tmp_path / name
        if name != "missing":
            folder.mkdir()
        if name in ("ours", "theirs"):
            (folder / f"{name}.txt").touch()
        if name != "theirs":
            check_replaceable(folder, marker="ours.txt", flag="--output")
    with pytest.raises(ConfigError, match=r"--output: .*theirs is not empty and has no ours.txt"):
        check_replaceable(tmp_path / "theirs", marker="ours.txt", flag="--output")
    with pytest.raises(ConfigError, match=r"--output: .* is a file"):
        check_replaceable(tmp_path / "ours" / "ours.txt", marker="ours.txt", flag="--output")
