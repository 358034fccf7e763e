"""`ssl_lt.pretrain`, `finetune`, `evaluate`, `predict`, `embed`: the commands as functions.

Keywords become the words that a user would type, as the values of YAML files do: there is one
parser and one set of messages. Nothing heavy is imported before a function is called.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

# Once they are there, no later import puts these packages in the place of the functions of their
# names in `ssl_lt`.
import ssl_lt.evaluate
import ssl_lt.finetune
import ssl_lt.pretrain  # noqa: F401

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ssl_lt.engine.checkpoints.run_folder import RunFolder
    from ssl_lt.inference_keywords import EmbedKeywords, PredictKeywords
    from ssl_lt.keywords import EvaluateKeywords, FinetuneKeywords, PretrainKeywords
    from ssl_lt.runs.embed import Embeddings
    from ssl_lt.runs.finished import FinishedRun
    from ssl_lt.runs.inference.model import TrainedModel
    from ssl_lt.runs.predict import Predictions

T = TypeVar("T")


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

    return _run("pretrain", command.run, PretrainConfig(), flags)


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

    return _run("finetune", command.run, default_config(FinetuneConfig.loss), flags)


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

    return _run("evaluate", command.run, EvaluateConfig(), flags)


def predict(**flags: Unpack[PredictKeywords]) -> Predictions:
    """Classifies images and writes a table: `ssl-lt predict`.

    Args:
        **flags: those of `ssl-lt predict --help-all`, as in `pretrain`:
            `run="runs/NAME", data="folder:photos", output="predictions.csv"`.

    Returns:
        What was written and where, and which images could not be read.

    Raises:
        UserError: whatever the caller can mend, with the sentence of the command line.
    """
    from ssl_lt.cli.commands import predict as command
    from ssl_lt.runs.config.inference import PredictConfig

    return _call("predict", command.run, PredictConfig(), flags)


def embed(**flags: Unpack[EmbedKeywords]) -> Embeddings:
    """Writes features of images, and their neighbours: `ssl-lt embed`.

    Args:
        **flags: those of `ssl-lt embed --help-all`, as in `pretrain`:
            `init_from="runs/NAME", data="folder:photos", output="features.npy", neighbours=5`.

    Returns:
        What was written and where, and which images could not be read.

    Raises:
        UserError: whatever the caller can mend, with the sentence of the command line.
    """
    from ssl_lt.cli.commands import embed as command
    from ssl_lt.runs.config.inference import EmbedConfig

    return _call("embed", command.run, EmbedConfig(), flags)


def load(path: str | os.PathLike[str]) -> TrainedModel:
    """A trained network as a module: `model(images)` are logits, `model.features(images)` features.

    Args:
        path: a run, a folder that `ssl-lt export` wrote, or a file of it (.safetensors, .onnx).

    Returns:
        The network on the CPU, with `transform`, `class_names` and `counts_per_class`.

    Raises:
        UserError: there is no such thing, or it is damaged.
    """
    from ssl_lt.runs.inference.load import load_trained

    return load_trained(os.fspath(path))


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


def _run(
    verb: str,
    run: Callable[[list[str]], RunFolder],
    default: Any,
    keywords: Mapping[str, Any],
) -> FinishedRun:
    """The verb; what every process sees when all have come to its end."""
    from ssl_lt.core.processes.distributed import wait_for_everyone
    from ssl_lt.runs.finished import finished_run

    folder = _call(verb, run, default, keywords)
    wait_for_everyone()
    return finished_run(folder)


def _call(verb: str, run: Callable[[list[str]], T], default: Any, keywords: Mapping[str, Any]) -> T:
    """What a command comes to."""
    from ssl_lt.core.errors import UserError
    from ssl_lt.core.progress import bars_alone
    from ssl_lt.runs.config.schema import flags
    from ssl_lt.runs.life.failure import as_user_error
    from ssl_lt.runs.life.processes import leave_processes
    from ssl_lt.runs.life.start import called_as

    words = words_of(keywords, (flag.name for flag in flags(default)))
    told = ", ".join(f"{key}={_plain(value)!r}" for key, value in keywords.items())
    try:
        with called_as(f"ssl_lt.{verb}({told})"), bars_alone():
            found = run(words)
    except UserError:
        raise
    except Exception as error:
        known = as_user_error(error)
        if known is None:
            raise
        raise known from error
    atexit.unregister(leave_processes)
    atexit.register(leave_processes)
    return found
