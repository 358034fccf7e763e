#!/usr/bin/env python
"""Runs a list of recipes one after another and makes one table of their results.

    python scripts/compare.py --data cifar10 --imbalance-factor 100 --budget laptop
    python scripts/compare.py configs/compare/pretrain_cifar100_lt_laptop.yaml

The first trains the whole shelf of fine-tuning methods (`configs/compare/shelf_BUDGET.yaml`), the
second what a list says. A list is a YAML file:

    budget: what every row gets, in words
    verb: pretrain                                   # or finetune
    rows:
      - name: SimCLR
        config: [laptop/cifar100_lt, laptop/simclr]  # recipes of the verb
        flags: {epochs: 60}                          # of pretrain.py, optional
        evaluate: {random-init: true}                # of evaluate.py; null: not called
        retrain: true                                # also the classifiers of `ssl-lt retrain`

Each row is trained once a seed in a folder of its own and then evaluated. It can be killed at any
point: what is finished is not done again, what was under way is resumed. A folder that other flags
have trained in is refused. The table (table.md, table.json) is made from the rows' results.json and
is written anew after every row.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ssl_lt.core.disk.plain import to_plain
from ssl_lt.core.errors import UserError
from ssl_lt.core.groups import leading_rule
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.evaluate.scores.evaluation import COLUMNS, mean_std
from ssl_lt.report.records.results import RunResult, read_results
from ssl_lt.report.tables.seeds import seed_rows

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """One recipe at one seed."""

    name: str
    seed: int
    recipes: Sequence[str]
    flags: Mapping[str, Any]
    evaluate: Mapping[str, Any] | None
    retrain: bool
    folder: Path


def main() -> int:
    """Runs what is not done yet; the exit code is that of the first row that failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("list", type=Path, nargs="?", help="YAML file with the rows")
    parser.add_argument("--budget", help="in place of a file: configs/compare/shelf_BUDGET.yaml")
    parser.add_argument("--data", help="of every row; none: as its recipe says")
    parser.add_argument("--data-root", type=Path, help="where it is found")
    parser.add_argument("--imbalance-factor", type=float, help="of every row")
    parser.add_argument("--output", type=Path, help="runs and table; default: runs/compare/LIST")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--flags", nargs="+", default=[], help="name=value, for every row")
    parser.add_argument("--only", nargs="+", help="names of the rows to run; all are in the table")
    parser.add_argument("--table-only", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    if (arguments.list is None) == (arguments.budget is None):
        parser.error("give a list, or --budget laptop")
    chosen = arguments.list or ROOT / f"configs/compare/shelf_{arguments.budget}.yaml"
    if not chosen.is_file():
        parser.error(f"no list {chosen}")
    plan = YAML(typ="safe", pure=True).load(chosen.read_text())
    output = arguments.output or Path("runs/compare") / chosen.stem
    known = {row["name"] for row in plan["rows"]}
    if unknown := sorted({*(arguments.only or ())} - known):
        parser.error(f"--only: no row {unknown[0]!r} among {', '.join(sorted(known))}")
    added = dict(flag.split("=", 1) for flag in arguments.flags)
    for flag in ("data", "data-root", "imbalance-factor"):
        value = getattr(arguments, flag.replace("-", "_"))
        if value is not None:
            added[flag] = str(value)
    common = {"evaluate": plan.get("evaluate", {})}
    rows = [
        read_row({**common, **row}, plan["verb"], seed, added, output)
        for seed in arguments.seeds
        for row in plan["rows"]
    ]
    for row in rows:
        if arguments.table_only or (arguments.only and row.name not in arguments.only):
            continue
        code = run(row, plan["verb"])
        if code:
            print(f"error: row {row.name}, seed {row.seed} ended with code {code}", file=sys.stderr)
            return code
        write_table(plan, rows, output)
    write_table(plan, rows, output)
    print((output / "table.md").read_text())
    return 0


def read_row(
    row: Mapping[str, Any], verb: str, seed: int, added: Mapping[str, Any], output: Path
) -> Row:
    """One entry of the list at one seed."""
    recipes = [f"{verb}/{name}" for name in row.get("config", ())]
    flags = {
        **row.get("flags", {}),
        **added,
        "seed": seed,
        "run-dir": str(output / slug(row["name"], seed)),
    }
    folder = Path(flags["run-dir"])
    return Row(
        row["name"], seed, recipes, flags, row["evaluate"], row.get("retrain", False), folder
    )


def slug(name: str, seed: int) -> str:
    """A folder name: `boosted-sdclr-seed0`."""
    return f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}-seed{seed}"


def run(row: Row, verb: str) -> int:
    """Trains and evaluates one row, or what is left of that."""
    if not claim(row, verb):
        print(
            f"error: {row.folder}: trained with other flags; choose another --output",
            file=sys.stderr,
        )
        return 2
    judged = run_of(row)
    is_series = judged.path != row.folder
    trained = (row.folder / "summary.json").is_file() if is_series else judged.is_finished
    if trained and result_of(row) is not None:
        return 0
    if not trained:
        if (row.folder / "config.yaml").is_file():
            command = [f"{verb}.py", "--resume", str(row.folder)]
        else:
            command = [f"{verb}.py", *files(row.recipes), *words(row.flags)]
        code = call(command)
        if code:
            return code
    path = str(run_of(row).path)
    code = 0
    if row.evaluate is not None:
        code = call(["evaluate.py", "--run", path, *words(row.evaluate)])
    if row.retrain and not code:
        code = call(["-m", "ssl_lt", "retrain", "--run", path])
    return code


def claim(row: Row, verb: str) -> bool:
    """Notes what flags a new folder is for; whether they are the row's, wherever the data is."""
    flags = {name: row.flags[name] for name in row.flags.keys() - {"data-root", "run-dir"}}
    asked = shlex.join([verb, *files(row.recipes), *words(dict(sorted(flags.items())))]) + "\n"
    note = row.folder.with_name(f"{row.folder.name}.flags")
    if row.folder.exists():
        return note.is_file() and note.read_text() == asked
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(asked)
    return True


def run_of(row: Row) -> RunFolder:
    """The run that a row is judged by: where it has stages, the last of them."""
    members = sorted(path.parent for path in row.folder.glob("*/config.yaml"))
    return RunFolder(members[-1] if members else row.folder)


def files(recipes: Sequence[str]) -> list[str]:
    """Recipes as they are typed: later ones win."""
    return [word for recipe in recipes for word in ("--config", recipe)]


def words(flags: Mapping[str, Any]) -> list[str]:
    """Flags as they are typed."""
    typed: list[str] = []
    for name, value in flags.items():
        if isinstance(value, bool):
            typed.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, list):
            typed += [f"--{name}", *map(str, value)]
        else:
            typed += [f"--{name}", str(value)]
    return typed


def call(command: Sequence[str]) -> int:
    """One command of ours, shown before it runs."""
    print(f"$ python {shlex.join(command)}", flush=True)
    program = [str(ROOT / command[0])] if command[0].endswith(".py") else [command[0]]
    return subprocess.run([sys.executable, *program, *command[1:]], check=False).returncode


def result_of(row: Row) -> RunResult | None:
    """A row's results, None while it is not evaluated."""
    try:
        result = read_results(run_of(row).results)
    except UserError:
        return None
    done = {e.name for e in result.evaluations}
    needed = ["kNN"] * (row.evaluate is not None) + ["cRT"] * row.retrain
    return result if done and done.issuperset(needed) else None


def minutes_of(row: Row) -> float | None:
    """Of training, all stages together; None of a row that is not done."""
    if result_of(row) is None:
        return None
    folders = sorted(path.parent for path in row.folder.glob("*/config.yaml")) or [row.folder]
    timings = [read_results(RunFolder(folder).results).timing for folder in folders]
    return sum(timing.seconds for timing in timings if timing) / 60


def write_table(plan: Mapping[str, Any], rows: Sequence[Row], output: Path) -> None:
    """`table.md` and `table.json` from every row that is done; others are listed as missing."""
    lines, records, missing = [], [], []
    for name in dict.fromkeys(row.name for row in rows):
        results = [r for row in rows if row.name == name and (r := result_of(row)) is not None]
        if not results:
            missing.append(name)
            continue
        own = [row for row in rows if row.name == name]
        minutes = mean_std([spent for row in own if (spent := minutes_of(row)) is not None])
        for row in seed_rows({name: results}):
            cells = [row.columns[key] for key in COLUMNS] + [minutes]
            shown = ["n/a" if cell is None else str(cell) for cell in cells]
            lines.append("| " + " | ".join([name, row.evaluation, *shown]) + " |")
            record = {"row": name, "evaluation": row.evaluation, **row.columns}
            record |= {"minutes": minutes, "seeds": len(results), "command": results[0].command}
            records.append(to_plain(record))
    rule = results_rule(rows)
    head = ["| " + " | ".join(["row", "evaluation", *COLUMNS, "minutes"]) + " |"]
    head.append("|---|---|" + "---:|" * (len(COLUMNS) + 1))
    text = [f"Budget: {plan['budget']}", "", *head, *lines, "", f"Percent. Groups {rule}."]
    text += [f"Mean ± standard deviation over seeds {sorted({row.seed for row in rows})}."] * (
        len({row.seed for row in rows}) > 1
    )
    text += [f"Not run yet: {', '.join(missing)}."] * bool(missing)
    text += ["", "Commands:", ""] + [
        f"    {c}" for c in dict.fromkeys(r["command"] for r in records)
    ]
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.md").write_text("\n".join(text) + "\n")
    (output / "table.json").write_text(json.dumps(records, indent=1) + "\n")


def results_rule(rows: Sequence[Row]) -> str:
    """The group rule of the table, as the results name it."""
    for row in rows:
        result = result_of(row)
        if result is not None:
            return leading_rule(result.evaluations[0].accuracy.groups)
    return "as the results will say"


if __name__ == "__main__":
    sys.exit(main())
