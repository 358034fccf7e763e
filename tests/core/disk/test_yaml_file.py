from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_lt.core.disk.yaml_file import as_words, read_yaml, write_yaml
from ssl_lt.core.errors import ConfigError


def read(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        ("-5e-4", -5e-4),
        ("3", 3),
        ("-1_000", -1000),
        ("'010'", "010"),
        ("0.5", 0.5),
        ("no", "no"),
        ("010", 10),
        ("1:30", "1:30"),
        ("true", True),
        ("null", None),
        ("1e-3x", "1e-3x"),
        ("folder:a/b", "folder:a/b"),
        ("'1e-3'", "1e-3"),
    ],
)
def test_a_scalar_means_what_people_write(tmp_path, text, value):
    found = read(tmp_path, f"k: {text}")["k"]
    assert found == value
    assert type(found) is type(value)


def test_nested_and_dotted_keys_and_both_dashes(tmp_path):
    text = "gh: {warmup_epochs: 1, prior-period: 2}\nbcl.num_ops: 2\nbatch_size: 4\n"
    expected = {"gh.warmup-epochs": 1, "gh.prior-period": 2, "bcl.num-ops": 2, "batch-size": 4}
    assert read(tmp_path, text) == expected


def test_an_empty_file_says_nothing(tmp_path):
    assert read(tmp_path, "# nothing\n") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lr: 1\nseed: 2\nlr: 3\n", 'line 3: found duplicate key "lr"'),
        ("gh:\n  clusters: 1\n  clusters: 2\n", 'line 3: found duplicate key "clusters"'),
        ("batch-size: 1\nbatch_size: 2\n", "'batch-size' appears twice, in two spellings"),
        ("gh: {clusters: 1}\ngh.clusters: 2\n", "'gh.clusters' appears twice, in two spellings"),
        (
            "a: !!python/object/apply:os.system ['true']\n",
            "line 1: could not determine",
        ),
        ("a: 2001-99-99\n", "month must be in"),
        ("a: [1\n", "line 2: "),
        ("a: b: c\n", "line 1: mapping values"),
        ("- a\n", "not a list of `key: value`"),
        ("just words\n", "not a list of `key: value`"),
        (b"a: \xff\n", "codec can't decode"),
        ("a: \0\n", "unacceptable|special characters"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says) as error:
        read(tmp_path, text)
    assert str(tmp_path / "c.yaml") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"--config: cannot read .*no\.yaml: No such file"):
        read_yaml(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match=r"--config: cannot read .*: Is a directory"):
        read_yaml(tmp_path)


words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=8)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), words,
    st.from_regex(r"[-+]?[0-9.]{1,3}[eE]?[-+]?[0-9]{0,2}", fullmatch=True),
)  # fmt: skip


@given(value=st.one_of(scalars, st.lists(scalars, max_size=3)))
def test_what_is_written_is_read_back(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(write_yaml({"k": value}), "utf-8")
    found = read_yaml(path)
    assert found == {"k": value}
    assert repr(found["k"]) == repr(value)  # 1 and 1.0 and True are equal, and not the same


def test_values_become_what_a_user_would_type():
    values = {
        "lr": -0.5,
        "plugins": ["bcl", "gh"],
        "nesterov": True,
        "download": False,
        "width": None,
    }
    assert as_words(values) == [
        "--lr=-0.5", "--plugins", "bcl", "gh", "--nesterov", "--no-download", "--width=None",
    ]  # fmt: skip
