import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from ssl_lt.core.disk.plain import from_plain, read_plain, to_plain
from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import ByGroup


@dataclass(frozen=True)
class Record:
    name: str
    groups: tuple[ByGroup[float | None], ...]
    pair: tuple[int, int] = (0, 0)


WHOLE = Record("a", (ByGroup("r", 0.5, None, 1.0),), (1, 2))


def test_a_dataclass_comes_back_as_it_went():
    plain = to_plain(WHOLE)
    assert plain["groups"] == [{"rule": "r", "many": 0.5, "medium": None, "few": 1.0}]
    assert from_plain(Record, plain) == WHOLE


def test_what_json_does_not_have_becomes_null_or_text():
    plain = to_plain({"a": float("nan"), "b": [float("inf")], 3: Path("x"), "c": {"d": (1,)}})
    assert plain == {"a": None, "b": [None], "3": "x", "c": {"d": [1]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name: input should be a valid string, not 3"),
        ({"other": 1}, "other: unknown field"),
        ({"pair": [1]}, "pair[1]: missing"),
        ({"pair": [1, True]}, "pair[1]: input should be a valid integer, not True"),
        ({"groups": [{**to_plain(WHOLE)["groups"][0], "many": "1"}]}, "groups[0].many: input"),
    ],
)
def test_a_field_that_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=r".") as error:
        from_plain(Record, to_plain(WHOLE) | change)
    assert str(error.value).startswith(message)


def test_a_file_is_named(tmp_path):
    path = tmp_path / "x.json"
    for text, message in (
        (None, "No such file"),
        ('{"a', "damaged, not JSON"),
        ('{"schema_version": 3}', "schema_version 3 is newer than 2"),
    ):
        if text is not None:
            path.write_text(text)
        with pytest.raises(DataError, match=message) as error:
            read_plain(path, newest=2)
        assert str(error.value).startswith(f"{path}: ")
    path.write_text(json.dumps({"schema_version": 2}))
    assert read_plain(path, newest=2) == {"schema_version": 2}
