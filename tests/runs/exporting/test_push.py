"""`ssl-lt export --push` against a hub on this machine."""

from __future__ import annotations

import shutil
import threading

import pytest

from ssl_lt.core.errors import ConfigError
from ssl_lt.runs.config.export import ExportConfig
from ssl_lt.runs.exporting.push import check_repository, push
from tests.runs.exporting.stand_in import Hub
from tests.toolbox import call, snapshot, succeed


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """It is the hub that is found, and its token the only one."""
    server = Hub()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    # What HF_ENDPOINT and HF_HOME say is read once, when the library is imported.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", server.token)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    """Files with the names of an export."""
    made = tmp_path / "model"
    made.mkdir()
    for name in ("README.md", "config.json", "model.safetensors", "model.onnx"):
        (made / name).write_text(f"---\nlicense: mit\n---\n{name}")
    return made


def test_a_folder_is_what_the_repository_holds_afterwards(hub, folder):
    assert push(folder, "us/new", private=False) == f"{hub.url}/us/new"
    assert hub.public["us/new"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.public["us/new"]["notes.txt"] = b"theirs"
    (folder / "model.onnx").unlink()
    (folder / "config.json").write_text("{}")
    push(folder, "us/new", private=False)
    assert "model.onnx" not in hub.public["us/new"]  # of the earlier export
    assert hub.public["us/new"]["config.json"] == b"{}"
    assert hub.public["us/new"]["notes.txt"] == b"theirs"


def test_private_ones(hub, folder):
    for _ in range(2):
        push(folder, "us/hidden", private=True)
    assert "README.md" in hub.private["us/hidden"]
    hub.public["us/open"] = {}
    with pytest.raises(ConfigError, match="--private: the repository is there already"):
        push(folder, "us/open", private=True)
    assert hub.public["us/open"] == {}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no token", "there is no token of the hub"),
        ("other token", "the hub does not accept the token"),
        ("reads alone", r"the token may not write there \(You don't have the rights"),
        ("reads a repository", "the token may not write there"),
        ("no network", "refused"),
        ("offline", "offline"),
    ],
)
def test_what_fails_is_said_in_a_line_that_tells_where_the_export_is(
    hub, folder, monkeypatch, how, says
):
    if how == "no token":
        monkeypatch.delenv("HF_TOKEN")
    elif how == "other token":
        hub.token = "hf_other"
    elif how.startswith("reads"):
        hub.may_write = False
        if how == "reads a repository":
            hub.public["us/new"] = {}
    elif how == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    before = snapshot(folder)
    with pytest.raises(ConfigError, match=says) as caught:
        push(folder, "us/new", private=False)
    line = str(caught.value)
    assert line.startswith("--push: not pushed to http")
    assert line.endswith(f"; the export is in {folder}")
    assert "\n" not in line
    assert "hf_good" not in line
    assert snapshot(folder) == before
    assert not any(hub.repositories.values())


@pytest.mark.parametrize("name", ["alone", "us/two/three", "us/with space", "us/-x", "us/a..b", ""])
def test_names_that_no_hub_takes(name):
    with pytest.raises(ConfigError, match="--push: "):
        check_repository(name)


def test_flags_without_effect_and_tags_that_are_none():
    with pytest.raises(ConfigError, match="--private: has no effect without --push"):
        ExportConfig(private=True)
    with pytest.raises(ConfigError, match=r"--license: 'Apache 2\.0' is no tag"):
        ExportConfig(license="Apache 2.0")


@pytest.mark.slow
def test_the_command_pushes_what_it_has_exported(finished, hub, empty):
    shutil.copytree(finished.finetuned, empty / "run")
    wrong = call("export", "run", "--push", "us")
    assert (wrong.code, len(wrong.err)) == (2, 1)
    assert not (empty / "run" / "exported-model").exists()
    said = succeed("export", "run", "--push", "us/digits", "--license", "mit").out
    assert said.splitlines()[-1] == f"pushed: {hub.url}/us/digits"
    card = hub.public["us/digits"]["README.md"].decode()
    assert "license: mit" in card.split("---")[1]
    assert 'timm.create_model("hf-hub:us/digits", pretrained=True)' in card
    assert set(hub.public["us/digits"]) == {"README.md", "config.json", "model.safetensors"}
    hub.may_write = False
    refused = call("export", "run", "--push", "us/other")
    assert (refused.code, len(refused.err)) == (2, 1)
    assert "; the export is in run/exported-model" in refused.err[0]
    assert (empty / "run" / "exported-model" / "README.md").is_file()
