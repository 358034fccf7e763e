"""What the tests of flags and files share."""

from __future__ import annotations

import pytest


@pytest.fixture
def config_file(tmp_path):
    def write(text, name="c.yaml"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write
