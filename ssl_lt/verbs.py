"""`ssl_lt.pretrain`, `ssl_lt.finetune` and `ssl_lt.evaluate`: the three commands as functions.

Keywords become the words that a user would type, as the values of YAML files do: there is one
parser and one set of messages. Nothing heavy is imported before a function is called.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

# Once they are there, no later import puts these packages in the place of the functions of their
# names in `ssl_lt`.
import ssl_lt.evaluate
import ssl_lt.finetune
import ssl_lt.pretrain  # noqa: F401

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ssl_lt.engine.checkpoints.run_folder import RunFolder
    from ssl_lt.keywords import EvaluateKeywords, FinetuneKeywords, PretrainKeywords
    from ssl_lt.runs.finished import FinishedRun


def pretrain(**flags: Unpack[PretrainKeywords]) -> FinishedRun:
    """Learns a representation without labels: `pretrain.py`.

    Args:
        **flags: those of `ssl-lt pretrain --help-all`, with `_` for `-` and `.`:
            `method="sdclr", sdclr_prune_ratio=0.9`. Also `config`, one YAML file or several, and
            `resume`: True for the newest run, or the run to go on with.

    Returns:
        The results of the finished run, with its folder.

    Raises:
        UserError: whatever the caller can mend, with the sentence of the command line.
    """
    from ssl_lt.cli.commands import pretrain as command
    from ssl_lt.runs.config.pretrain import PretrainConfig

    return _call("pretrain", command.run, PretrainConfig(), flags)


def finetune(**flags: Unpack[FinetuneKeywords]) -> FinishedRun:
    """Trains a classifier: `finetune.py`.

    Args:
        **flags: those of `ssl-lt finetune --loss LOSS --help-all`, as in `pretrain`:
            `loss="rcl", epochs=5, view_min_scale=0.2`.

    Returns:
        The results of the finished run, with its folder; of several runs (`seeds`, `stages`,
        `compare`) their means over the seeds, and the runs as `members`.

    Raises:
        UserError: whatever the caller can mend, with the sentence of the command line.
    """
    from ssl_lt.cli.commands import finetune as command
    from ssl_lt.runs.config.finetune import FinetuneConfig, default_config

    return _call("finetune", command.run, default_config(FinetuneConfig.loss), flags)


def evaluate(**flags: Unpack[EvaluateKeywords]) -> FinishedRun:
    """Judges a run on the balanced test split and makes its report: `evaluate.py`.

    Args:
        **flags: those of `ssl-lt evaluate --help-all`, as in `pretrain`. `run` may be what
            `pretrain` or `finetune` has returned; without it, it is the newest one under runs/.

    Returns:
        The results of the run, with its folder.

    Raises:
        UserError: whatever the caller can mend, with the sentence of the command line.
    """
    from ssl_lt.cli.commands import evaluate as command
    from ssl_lt.runs.config.evaluate import EvaluateConfig

    return _call("evaluate", command.run, EvaluateConfig(), flags)


def words_of(keywords: Mapping[str, Any], flags: Iterable[str]) -> list[str]:
    """What a user would type: `sdclr_prune_ratio=0.9` as `--sdclr.prune-ratio=0.9`.

    Args:
        keywords: name -> value; None where the default of a flag is none.
        flags: names of the flags, for the dots in them.
    """
    from ssl_lt.core.disk.yaml_file import as_words

    dotted = {name.replace(".", "-"): name for name in flags}
    words: list[str] = []
    for key, value in keywords.items():
        name = key.replace("_", "-")
        plain = _plain(value)
        if name == "config":
            files = plain if isinstance(plain, list) else [plain]
            words += [f"--config={file}" for file in files if file is not None]
        elif name == "resume":
            if plain not in (None, False):
                words += ["--resume", *([] if plain is True else [str(plain)])]
        else:
            words += as_words({dotted.get(name, name): plain})
    return words


def _plain(value: Any) -> Any:
    """Paths and runs as the words they are, any sequence as a list."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _call(
    verb: str,
    run: Callable[[list[str]], RunFolder],
    default: Any,
    keywords: Mapping[str, Any],
) -> FinishedRun:
    """The verb; what every process sees when all have come to its end."""
    from ssl_lt.core.errors import UserError
    from ssl_lt.core.processes.distributed import wait_for_everyone
    from ssl_lt.core.progress import bars_alone
    from ssl_lt.runs.config.schema import flags
    from ssl_lt.runs.finished import finished_run
    from ssl_lt.runs.life.failure import as_user_error
    from ssl_lt.runs.life.processes import leave_processes
    from ssl_lt.runs.life.start import called_as

    words = words_of(keywords, (flag.name for flag in flags(default)))
    told = ", ".join(f"{key}={_plain(value)!r}" for key, value in keywords.items())
    try:
        with called_as(f"ssl_lt.{verb}({told})"), bars_alone():
            folder = run(words)
    except UserError:
        raise
    except Exception as error:
        known = as_user_error(error)
        if known is None:
            raise
        raise known from error
    wait_for_everyone()
    atexit.unregister(leave_processes)
    atexit.register(leave_processes)
    return finished_run(folder)
