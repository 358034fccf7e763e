"""What README tells people to type is understood, and the files it names are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from ssl_lt.cli.config.parse import parse, read_configs, split_arguments

from ssl_lt.cli.commands import pretrain
from ssl_lt.runs.config import finetune as finetune_config
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.life.find import take_resume

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", README, flags=re.S)).replace("\\\n", " ")
COMMANDS = [
    line for line in BLOCKS.splitlines() if re.search(r"(pretrain|finetune|evaluate)\.py", line)
]


def words_of(command):
    typed = shlex.split(command, comments=True)
    script = next(i for i, word in enumerate(typed) if word.endswith(".py"))
    return typed[script], split_arguments(typed[script + 1 :])


def test_readme_has_the_commands():
    scripts = {words_of(command)[0] for command in COMMANDS}
    assert {"pretrain.py", "finetune.py", "evaluate.py"} <= scripts


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text("lr: 0.1\n")
    # A run to start from and to resume, as far as reading the command line goes.
    script, words = words_of(command)
    if "--resume" in words:
        with pytest.raises(ValueError, match="--resume: no pretrain run"):
            take_resume(words, "pretrain")
    elif script == "pretrain.py":
        pretrain.read_config(words, None)
    elif script == "finetune.py":
        # The run that README calls NAME is not there: parse what would follow from scratch.
        if "runs/NAME" in words:
            words[words.index("runs/NAME")] = "scratch"
        finetune_config.read_config(words, None)
    elif script == "evaluate.py":
        parse(EvaluateConfig(), words, read_configs(words), prog="")
    else:
        assert (ROOT / script).is_file()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\((docs/[a-z_]+\.md)\)", README))))
def test_every_document_is_there(name):
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("name", ["scripts/quickstart", "scripts/test", "scripts/setup", ".ci/run"])
def test_every_script_can_be_run(name):
    assert (ROOT / name).stat().st_mode & 0o111
