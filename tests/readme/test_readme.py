"""What the documents tell people to type is understood, and the files they name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ssl_lt.core.errors import ConfigError
from tests.configs import read
from tests.readme.reading import commands, split_command

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {
    path.name: path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
COMMANDS = [
    pytest.param(command, id=f"{name}: {command}")
    for name, text in DOCUMENTS.items()
    for command in dict.fromkeys(commands(text))
]
LINKS = sorted(
    {
        (name, link)
        for name, text in DOCUMENTS.items()
        for link in re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", text)
    }
)
SCRIPTS = sorted(
    {
        script
        for text in DOCUMENTS.values()
        for script in re.findall(r"(?:scripts|benchmarks|configs|tests|ssl_lt)/[\w/.]+\w", text)
    }
)
# What a reader of docs/adding_*.md writes, a folder of several recipes, what a run writes.
WRITTEN_BY_THE_READER = re.compile(r"poly|align|NAME|finetune/$")


def test_readme_is_short_and_has_the_three_verbs():
    assert len(README.splitlines()) <= 150
    assert {split_command(command)[0] for command in commands(README)} == {
        "pretrain",
        "finetune",
        "evaluate",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command, empty):
    (empty / "my.yaml").write_text("lr: 0.1\n")
    (empty / "configs").symlink_to(ROOT / "configs")
    verb, words = split_command(command)
    # Braces and DATA stand for several files and for a folder of the reader.
    words = [re.sub(r"\{(\w+)[\w,]*\}", r"\1", word) for word in words]
    if "--resume" in words:  # of no run that is here, as far as reading the command line goes
        words = words[: words.index("--resume")]
    if "--extend" in words:  # nor is what is extended
        first = words.index("--extend")
        del words[first : first + 2]
    if "--compare" in words:  # nor are its starts, which other tests read
        first = words.index("--compare")
        last = next((i for i in range(first + 1, len(words)) if words[i][:2] == "--"), len(words))
        del words[first:last]
    if verb == "finetune" and "--init-from" not in words:
        words += ["--init-from", "scratch"]
    # Neither runs nor weights of a document are there: parse what would follow from scratch.
    if verb != "evaluate" and "--init-from" in words:
        words[words.index("--init-from") + 1] = "scratch"
    read(verb, words)


def test_a_wrong_flag_would_be_found():
    with pytest.raises(ConfigError, match="prune-ratio"):
        read("pretrain", ["--prune-ratio", "0.9"])


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_every_document_is_there(name, link):
    folder = ROOT if name == "README.md" else ROOT / "docs"
    assert (folder / link).is_file()


@pytest.mark.parametrize("path", SCRIPTS)
def test_every_file_that_is_named_is_there(path):
    if not WRITTEN_BY_THE_READER.search(path):
        assert (ROOT / path).exists()


@pytest.mark.parametrize("name", ["scripts/quickstart", "scripts/test", "scripts/setup", ".ci/run"])
def test_every_script_can_be_run(name):
    assert (ROOT / name).stat().st_mode & 0o111
