"""`pretrain.py`: learn a representation without labels."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.command_line import RunFiles, read_config, read_words, show_help
from ssl_lt.core.processes.distributed import rank
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.runs.config.pretrain import PretrainConfig, spelled_out
from ssl_lt.runs.config.stored import stored_pretraining
from ssl_lt.runs.life.find import run_to_resume
from ssl_lt.runs.life.same_run import check_resumed
from ssl_lt.runs.pretrain import pretrain

_USAGE = "pretrain.py [--method METHOD] [--plugins P ...] [--data SOURCE] [OPTIONS]"


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    if show_help(arguments, usage=_USAGE, default=PretrainConfig(), files=RunFiles()):
        return 0
    config, resumed = read(arguments)
    pretrain(config, resumed=resumed)
    if rank() == 0:
        print("next: finetune.py or evaluate.py")
    return 0


def read(arguments: Sequence[str]) -> tuple[PretrainConfig, RunFolder | None]:
    """The configuration, and the run that goes on if one does."""
    words = read_words(arguments, RunFiles())
    resumed = run_to_resume(words.files.resume, "pretrain")
    if resumed is None:
        return spelled_out(read_config(PretrainConfig, words, default=PretrainConfig())), None
    stored = stored_pretraining(resumed.config)
    config = read_config(PretrainConfig, words, default=stored)
    config = spelled_out(config, stored=stored)
    check_resumed(resumed, stored, config)
    return config, resumed
