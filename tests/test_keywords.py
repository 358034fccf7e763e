"""The keywords of the functions are the flags: two files of `ssl_lt` are what they make of it.

After a change of flags, `pytest tests/test_keywords.py --update-keywords` writes them anew.
"""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest

from ssl_lt import inference_keywords, keywords
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.finetune import default_config
from ssl_lt.runs.config.inference import EmbedConfig, PredictConfig
from ssl_lt.runs.config.pretrain import PretrainConfig
from ssl_lt.runs.config.schema import Flag, flags

FILE, AFTER = Path(keywords.__file__), Path(inference_keywords.__file__)
# Of the type str: what may also be a path, or a run that a function has returned.
PLACES = {"run", "init_from", "extend", "data_root", "prior", "compare"}
VERBS = {
    "pretrain": [PretrainConfig()],
    "finetune": [default_config(loss) for loss in LOSSES],
    "evaluate": [EvaluateConfig()],
}
VERBS_AFTER = {"predict": [PredictConfig()], "embed": [EmbedConfig()]}


def written(kind: Any, name: str) -> str:
    """A type as the file has it."""
    if get_origin(kind) in (Union, types.UnionType):
        return " | ".join(written(member, name) for member in get_args(kind))
    if get_origin(kind) is tuple:
        return f"Sequence[{written(get_args(kind)[0], name)}]"
    if get_origin(kind) is Literal:
        return f"Literal[{', '.join(repr(value) for value in get_args(kind))}]"
    if kind is type(None):
        return "None"
    return "Place" if kind is Path or name in PLACES else kind.__name__


def lines_of(verb: str) -> dict[str, str]:
    """Line of each keyword -> its group."""
    found: dict[str, Flag] = {}
    for config in (VERBS | VERBS_AFTER)[verb]:
        for flag in flags(config):
            key = flag.name.replace("-", "_").replace(".", "_")
            known = found.setdefault(key, flag)
            assert known.name == flag.name, f"{known.name} and {flag.name} share a keyword"
            if known.kind != flag.kind:  # with one loss it may be left out, with another not
                found[key] = max(known, flag, key=lambda f: len(get_args(f.kind)))
    return {f"    {key}: {written(f.kind, key)}": f.group for key, f in found.items()}


def block(name: str, base: str, told: str, lines: Iterable[tuple[str, str]]) -> str:
    text = [f"class {name}({base}, total=False):", f'    """{told}"""\n']
    last = ""
    for line, group in sorted(lines, key=lambda pair: pair[1]):
        text += [f"    # {group}"] if group != last else []
        text.append(line)
        last = group
    return "\n".join(text)


def expected() -> str:
    """The file."""
    pretrain, finetune, evaluate = (lines_of(verb) for verb in VERBS)
    both = {k: v for k, v in pretrain.items() if k in finetune}
    shared = {k: v for k, v in both.items() if k in evaluate}
    base, train = "SharedKeywords", "TrainKeywords"
    shared["    config: Place | Sequence[Place] | None"] = "files"
    both["    resume: bool | Place | None"] = "files"
    blocks = [
        block(base, "TypedDict", "Of all three.", shared.items()),
        block(train, base, "Of `pretrain` and `finetune`.", rest(both, shared)),
        block("PretrainKeywords", train, "Of `pretrain`.", rest(pretrain, both)),
        block("FinetuneKeywords", train, "Of `finetune`, with any loss.", rest(finetune, both)),
        block("EvaluateKeywords", base, "Of `evaluate`.", rest(evaluate, shared)),
    ]
    return formatted(blocks, FILE)


def expected_after() -> str:
    """The file of what is done with a trained network."""
    predict, embed = (lines_of(verb) for verb in VERBS_AFTER)
    shared = {k: v for k, v in predict.items() if k in embed}
    shared["    config: Place | Sequence[Place] | None"] = "files"
    base = "ImageKeywords"
    blocks = [
        block(base, "TypedDict", "Of both.", shared.items()),
        block("PredictKeywords", base, "Of `predict`.", rest(predict, shared)),
        block("EmbedKeywords", base, "Of `embed`.", rest(embed, shared)),
    ]
    return formatted(blocks, AFTER)


def formatted(blocks: list[str], file: Path) -> str:
    start = file.read_text("utf-8").partition("\nclass ")[0]
    text = f"{start}\n" + "\n\n\n".join(blocks) + "\n"
    formatter = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(file), "-"]
    return subprocess.run(
        formatter, input=text, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip


def rest(lines: dict[str, str], taken: dict[str, str]) -> list[tuple[str, str]]:
    return [pair for pair in lines.items() if pair[0] not in taken]


@pytest.mark.parametrize(("file", "make"), [(FILE, expected), (AFTER, expected_after)])
def test_they_are_the_flags(file: Path, make: Callable[[], str], request: pytest.FixtureRequest):
    wanted = make()
    if request.config.getoption("--update-keywords"):
        file.write_text(wanted, "utf-8")
    assert file.read_text("utf-8") == wanted, "pytest tests/test_keywords.py --update-keywords"
