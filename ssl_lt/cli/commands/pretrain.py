"""`pretrain.py`: learn a representation without labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

from accelerate import Accelerator
from safetensors.torch import save_file

from ssl_lt.augment.views import ContrastiveView, WorkerCrop
from ssl_lt.cli.config.parse import parse, peek_values, read_configs, split_arguments, take_values
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Epoch, View
from ssl_lt.data.dataset import Data, open_data, train_loader
from ssl_lt.data.loading.plan import BatchPlan
from ssl_lt.engine.checkpoints.lock import run_lock
from ssl_lt.engine.checkpoints.run_folder import RunFolder, check_is_new
from ssl_lt.engine.fit import fit
from ssl_lt.engine.parallel import check_sharing
from ssl_lt.engine.plan import Plan
from ssl_lt.evaluate.monitor import Monitor
from ssl_lt.models.backbones import build_backbone
from ssl_lt.models.export import export_backbone
from ssl_lt.models.heads import projector
from ssl_lt.pretrain.parts import TwoViewParts
from ssl_lt.pretrain.registry import ALIASES, METHODS, PLUGINS, PluginSite
from ssl_lt.pretrain.two_views import TwoViewTask
from ssl_lt.runs.build.batches import batch_plan
from ssl_lt.runs.config.options import PretrainConfig
from ssl_lt.runs.config.schema import (
    coerce,
    extended,
    flat,
    flat_fields,
    nearest,
    one_of,
    to_mapping,
)
from ssl_lt.runs.life.find import identity, new_run_path, resumed_config, stored_values, take_resume
from ssl_lt.runs.life.mirrored import mirrored
from ssl_lt.runs.life.processes import build_accelerator, launcher_sharing
from ssl_lt.runs.life.result import describe_start, save_result
from ssl_lt.runs.life.same_start import check_configuration
from ssl_lt.runs.life.start import start_run


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    words = split_arguments(arguments)
    resumed = take_resume(words, "pretrain")
    config = read_config(words, resumed)
    if resumed is not None and resumed.is_finished:
        with mirrored(resumed, config.run.mirror):  # what could not be copied at the end
            print(f"{resumed.path} is finished: nothing to do")
        return 0
    name = config.run.run_dir or new_run_path("pretrain", *_words(config))
    if resumed is None:
        check_is_new(name)  # before minutes are spent on data
    accelerator = build_accelerator(config.fit, name)
    check_configuration(config, resumed)
    with run_lock(resumed), mirrored(resumed or RunFolder(name), config.run.mirror):
        data = open_data(config.data, stored=None if resumed is None else resumed.split_files)
        plan = batch_plan(config.run, config.fit, data)
        if config.run.batch_size < 2:
            raise ConfigError(
                f"--batch-size {config.run.batch_size}: contrast needs 2 images or more"
            )
        task = build_task(config, data)
        check_sharing(task, launcher_sharing(), config.optim, config.fit)
        if config.knn_every:
            data.watched()  # decodes it: a damaged image is found before the run begins
        folder = resumed or start_run(name, config, data, accelerator, verb="pretrain")
        with run_lock(folder):
            train(task, config, data, plan, folder=folder, accelerator=accelerator)
    return 0


def train(
    task: TwoViewTask,
    config: PretrainConfig,
    data: Data,
    batches: BatchPlan,
    *,
    folder: RunFolder,
    accelerator: Accelerator,
) -> None:
    """Fits, exports and writes the results."""
    accelerator.print(describe_start(folder, data, config.run.batch_size, accelerator), flush=True)
    crop = WorkerCrop(config.view, seed=config.run.seed, num_views=2)
    loader = train_loader(data, batches, crop, device=accelerator.device)
    monitor = Monitor(data, config.fit.mixed_precision, warn=accelerator.print)

    def end_of_epoch(task: TrainTask, epoch: Epoch) -> Mapping[str, float]:
        assert isinstance(task, TwoViewTask)
        save_scores(task, folder, epoch, accelerator)
        return monitor(task.backbone) if epoch.is_due(config.knn_every) else {}

    fit(
        task,
        loader,
        Plan(
            config.fit,
            config.optim,
            config.schedule,
            config.run.seed,
            identity=identity(config, data_sha256=data.sha256),
            sharing=launcher_sharing(),
        ),
        accelerator=accelerator,
        folder=folder,
        end_of_epoch=end_of_epoch,
    )
    if accelerator.is_main_process:
        save_result(folder, data, to_mapping(config), verb="pretrain", evaluations=())
        source = data.source
        # Last: a run that has it is finished.
        export_backbone(
            task.backbone,
            folder.exported,
            image_size=data.image_size,
            mean=source.mean,
            std=source.std,
        )
        print(f"finished: {folder.path}; next: finetune.py or evaluate.py")
    accelerator.end_training()


def save_scores(
    task: TwoViewTask, folder: RunFolder, epoch: Epoch, accelerator: Accelerator
) -> None:
    """What the plug-ins know of each sample after an epoch: `scores/epoch-0001.safetensors`."""
    scores = {name: score.cpu().contiguous() for name, score in task.scores().items()}
    if scores and accelerator.is_main_process:
        folder.scores.mkdir(exist_ok=True)
        save_file(scores, folder.scores / f"epoch-{epoch.number + 1:04d}.safetensors")


def build_task(config: PretrainConfig, data: Data) -> TwoViewTask:
    """Networks, view, plug-ins and the method; initial weights follow from the seed."""
    backbone, num_features = build_backbone(
        config.model, image_size=data.image_size, seed=config.run.seed
    )
    site = PluginSite(
        num_samples=len(data.train),
        embedding_dim=config.projector.output_dim,
        total_epochs=config.fit.epochs,
        seed=config.run.seed,
    )
    plugins = [PLUGINS[name].build(getattr(config, name), site) for name in config.plugins]
    parts = TwoViewParts(
        backbone,
        projector(num_features, config.projector),
        build_view(config, data),
        plugins,
        num_samples=len(data.train),
    )
    options = getattr(config, "options")  # noqa: B009  (of the chosen method, see `default`)
    return METHODS[config.method].build(parts, options=options, seed=config.run.seed)


def build_view(config: PretrainConfig, data: Data) -> View:
    """SimCLR's view, or that of the plug-in that sets its strength."""
    picture: dict[str, Any] = {
        "size": data.image_size,
        "mean": data.source.mean,
        "std": data.source.std,
    }
    for name in config.plugins:
        boosted = PLUGINS[name].view
        if boosted is not None:
            return boosted(getattr(config, name), config.view, **picture)
    return ContrastiveView(config.view, **picture)


def default(method: str, plugins: Sequence[str]) -> PretrainConfig:
    """The default configuration with the options of one method and some plug-ins in it.

    Raises:
        ConfigError: an unknown name, or a plug-in given twice.
    """
    if method in ALIASES:
        method, implied = ALIASES[method]
        plugins = [*implied, *plugins]
    if method not in METHODS:
        raise ConfigError(f"--method: unknown name {method!r}{nearest(method, METHODS)}")
    for plugin in plugins:
        if plugin not in PLUGINS:
            raise ConfigError(f"--plugins: unknown name {plugin!r}{nearest(plugin, PLUGINS)}")
        if list(plugins).count(plugin) > 1:
            raise ConfigError(f"--plugins: {plugin} is given twice")
    options = METHODS[method].options
    fields: list[tuple[str, Any, Any]] = [
        ("method", one_of([*METHODS, *ALIASES]), method),
        ("plugins", cast(Any, tuple)[one_of(PLUGINS), ...], tuple(plugins)),
        ("options", flat(options), options),
    ]
    fields += [(name, PLUGINS[name].options, PLUGINS[name].options) for name in plugins]
    return extended(PretrainConfig, fields)


def read_config(words: list[str], resumed: RunFolder | None) -> PretrainConfig:
    """The configuration of a new run, or of one that goes on."""
    values = read_configs(words)
    _spell_out_alias(words, values)
    if resumed is not None:
        stored = stored_values(resumed)
        return resumed_config(default(stored["method"], stored["plugins"]), words, values, resumed)
    method, plugins = _names(words, values)
    chosen = default(method, plugins)
    return parse(chosen, words, values, prog="pretrain.py", elsewhere=_other_flags(chosen))


def _names(words: list[str], values: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Method and plug-ins, from the flags or else from YAML values."""
    method = coerce(values.get("method", "simclr"), str, where="--config: method")
    plugins = coerce(values.get("plugins", []), tuple[str, ...], where="--config: plugins")
    given = peek_values(words, "--plugins") if "--plugins" in words else plugins
    return (peek_values(words, "--method") or [method])[0], list(given)


def _spell_out_alias(words: list[str], values: dict[str, Any]) -> None:
    """Replaces `--method bcl` and the like, in place, by what they stand for."""
    method, plugins = _names(words, values)
    if method not in ALIASES or len(peek_values(words, "--method")) > 1:
        return
    take_values(words, "--method")
    take_values(words, "--plugins")
    method, implied = ALIASES[method]
    values |= {"method": method, "plugins": [*implied, *plugins]}


def _other_flags(chosen: PretrainConfig) -> dict[str, str]:
    """Flags of the methods and plug-ins that were not chosen, and whose they are."""
    own = {name for name, _, _ in flat_fields(chosen)}
    flags = {}
    for method, entry in METHODS.items():
        for option in dataclasses.fields(entry.options):
            flags[option.name.replace("_", "-")] = f"--method {method}"
    for plugin, plugin_entry in PLUGINS.items():
        for option in dataclasses.fields(plugin_entry.options):
            flags[f"{plugin}.{option.name.replace('_', '-')}"] = f"--plugins {plugin}"
    return {flag: owner for flag, owner in flags.items() if flag not in own}


def _words(config: PretrainConfig) -> list[str]:
    return [config.method, *config.plugins, config.data.data]
