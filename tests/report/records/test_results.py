import json
import stat
from dataclasses import replace

import pytest

from ssl_lt.core.errors import DataError, DiskError
from ssl_lt.report.records.results import SCHEMA_VERSION, read_results, to_json, write_results


def test_comes_back_as_it_went(make_run, tmp_path):
    run = make_run()
    write_results(run, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == run
    bare = replace(run, timing=None, curves={}, evaluations=(), plugins=())
    write_results(bare, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == bare


def test_untested_classes_and_names_beyond_ascii(make_run, tmp_path):
    run = make_run(names=["Größe", "кот", "猫"], evaluations=["kNN"])
    accuracy = replace(run.evaluations[0].accuracy, per_class=(None, 0.5, 0.25))
    run = replace(run, evaluations=(replace(run.evaluations[0], accuracy=accuracy),))
    write_results(run, tmp_path / "r.json")
    assert read_results(tmp_path / "r.json") == run
    assert "猫" in (tmp_path / "r.json").read_text(encoding="utf-8")


def test_newer_schema_names_the_file_and_both_versions(make_run, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(to_json(make_run()).replace('"schema_version": 2', '"schema_version": 7'))
    with pytest.raises(DataError, match=r"r\.json: schema_version 7 is newer than 2"):
        read_results(path)
    assert SCHEMA_VERSION == 2


def test_a_matrix_of_an_older_file_is_read(make_run, tmp_path):
    run = make_run()
    plain = json.loads(to_json(run))
    plain["schema_version"] = 1
    for evaluation in plain["evaluations"]:
        columns = evaluation["confusion"]
        matrix = [[0] * 12 for _ in range(12)]
        for true, predicted, images in zip(*columns.values(), strict=True):
            matrix[true][predicted] = images
        evaluation["confusion"] = matrix
    (tmp_path / "r.json").write_text(json.dumps(plain))
    assert read_results(tmp_path / "r.json").evaluations == run.evaluations


@pytest.mark.parametrize("cut", [0, 1, 500, -3])
def test_cut_file_is_named(make_run, tmp_path, cut):
    path = tmp_path / "r.json"
    path.write_text(to_json(make_run())[:cut])
    with pytest.raises(DataError, match=r"r\.json: damaged") as error:
        read_results(path)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path):
    (tmp_path / "r.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"r\.json: damaged"):
        read_results(tmp_path / "r.json")
    with pytest.raises(DataError, match=r"none\.json: No such file"):
        read_results(tmp_path / "none.json")


def change(plain, path, value):
    *parents, last = path
    for key in parents:
        plain = plain[key]
    plain[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["verb"], 3, "verb: input should be a valid string, not 3"),
        (["surprise"], 3, "surprise: unknown field"),
        (
            ["timing", "seconds"],
            "fast",
            "seconds: input should be a valid number, not 'fast'",
        ),
        (["timing", "seconds"], True, "timing.seconds: input should be a valid number, not True"),
        (["data"], [], "data: input should be an object, not []"),
        (["plugins"], "bcl", "plugins: input should be a valid array, not 'bcl'"),
        (["data", "counts_per_class"], [1, 2], "data.counts_per_class: 2 entries for 12 classes"),
        (["data", "groups", 0, "few"], [99], "data.groups: no class 99 among 12"),
        (["evaluations", 0, "confusion", "images"], [1], "evaluations[0].confusion: true, predic"),
        (["evaluations", 0, "confusion", "true", 0], 12, "[0].confusion: a class that there is"),
        (["evaluations", 0, "confusion", "images", 0], 0, "[0].confusion.images: fewer than one"),
        (["evaluations", 0, "confusion"], [[1], [2]], "confusion: no square matrix"),
        (["evaluations", 0, "confusion"], [[None]], "confusion: no matrix of numbers"),
        (["evaluations", 1, "accuracy", "per_class"], [0.5], "evaluations[1].accuracy.per_class"),
        (
            ["evaluations", 0, "accuracy", "groups", 0, "num_classes"],
            [1],
            "num_classes[1]: missing",
        ),
        (
            ["curves", "loss", "values"],
            [None],
            "curves.loss.values[0]: input should be",
        ),
    ],
)
def test_fields_that_do_not_fit_are_named(make_run, tmp_path, path, value, message):
    plain = json.loads(to_json(make_run()))
    change(plain, path, value)
    (tmp_path / "r.json").write_text(json.dumps(plain))
    with pytest.raises(DataError) as error:
        read_results(tmp_path / "r.json")
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "r.json"))


def test_missing_field_is_named(make_run, tmp_path):
    plain = json.loads(to_json(make_run()))
    del plain["data"]["source"]
    (tmp_path / "r.json").write_text(json.dumps(plain))
    with pytest.raises(DataError, match=r"data\.source: missing"):
        read_results(tmp_path / "r.json")


def test_what_json_does_not_have_becomes_null_or_text(make_run, tmp_path):
    run = replace(make_run(), configuration={"lr": float("nan"), "root": tmp_path, "t": (1, 2)})
    write_results(run, tmp_path / "r.json")
    assert read_results(tmp_path / "r.json").configuration == {
        "lr": None,
        "root": str(tmp_path),
        "t": [1, 2],
    }


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(make_run, tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    write_results(make_run("old"), path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ssl_lt.core.disk.files.sync_path", full)
    with pytest.raises(DiskError, match=r"r\.json: cannot be written: No space left"):
        write_results(make_run("new"), path)
    assert read_results(path).name == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_others_may_read_it(make_run, tmp_path):
    write_results(make_run(), tmp_path / "deep" / "r.json")
    assert stat.S_IMODE((tmp_path / "deep" / "r.json").stat().st_mode) == 0o644
