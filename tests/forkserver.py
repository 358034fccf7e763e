"""Processes that start quickly, of one that has imported everything and computed nothing."""

from __future__ import annotations

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "ssl_lt.cli.commands.finetune",
        "ssl_lt.cli.commands.pretrain",
        "ssl_lt.models.backbones",
        "sklearn.datasets",
        "tests.distributed.pool",
        "tests.faults.process",
    ]
)
