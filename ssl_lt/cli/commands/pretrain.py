"""`pretrain.py`: learn a representation without labels."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.command_line import RunFiles, read_config, read_words, show_help
from ssl_lt.core.distributed import rank
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
    words = read_words(arguments, RunFiles())
    resumed = run_to_resume(words.files.resume, "pretrain")
    stored = PretrainConfig() if resumed is None else stored_pretraining(resumed.config)
    config = spelled_out(read_config(PretrainConfig, words, default=stored))
    if resumed is not None:
        check_resumed(resumed, stored, config)
    pretrain(config, resumed=resumed)
    if rank() == 0:
        print("next: finetune.py or evaluate.py")
    return 0
