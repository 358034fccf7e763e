from __future__ import annotations

import pytest

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.errors import DiskError


def test_a_folder_is_made_and_the_text_is_whole(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_text_atomically(path, "é")
    assert path.read_text(encoding="utf-8") == "é"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    write_text_atomically(path, "old")

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ssl_lt.core.disk.files.sync_path", full)
    with pytest.raises(DiskError, match="No space left"):
        write_text_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]
