"""The parts of a run, made from its config; whatever cannot be made raises `InputError`."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lossbench import targets
from lossbench.config import Config
from lossbench.data.preparation import PreparedData
from lossbench.errors import InputError
from lossbench.models import Classifier, build_classifier
from lossbench.training.regimes import Plain, Setting

Allow = Sequence[str] | None  # modules that the user allows `_target_` to name, see `targets.find`


def build_model(config: Config, prepared: PreparedData, seed: int, allow: Allow = ()) -> Classifier:
    """The backbone that ``config`` names, with its head, initialised from ``seed``."""
    found = targets.find(config["_target_"], "model", allow)
    parameters = targets.bind(found, "model", targets.arguments_of(config, "head"), "input_shape")

    def backbone(input_shape: tuple[int, ...]) -> nn.Module:
        return targets.call(found, "model", input_shape, **parameters)

    return build_classifier(
        backbone,
        config["head"],
        input_shape=prepared.input_shape,
        num_classes=len(prepared.class_names),
        seed=seed,
    )


def build_optimizer(
    config: Config, allow: Allow = ()
) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """A function from parameters to the optimiser that ``config`` names."""
    found = targets.find(config["_target_"], "optimizer", allow)
    parameters = targets.bind(found, "optimizer", targets.arguments_of(config), "params")
    weight = nn.Parameter(torch.zeros(1))
    targets.call(found, "optimizer", [weight], **parameters)  # refuses values out of its range
    return lambda weights: found(weights, **parameters)


def build_regime(config: Config, setting: Setting, allow: Allow = ()) -> Plain:
    """The regime that ``config`` names: a `Plain`, or a subclass of it."""
    found = targets.find(config["_target_"], "regime", allow)
    parameters = targets.bind(found, "regime", targets.arguments_of(config), "setting")
    made = targets.call(found, "regime", setting, **parameters)
    if not isinstance(made, Plain):
        raise InputError(
            f"regime: {config['_target_']} returned a {type(made).__name__}; it must be a subclass "
            "of lossbench.training.regimes.Plain"
        )
    return made


def build_schedule(config: Config, allow: Allow = ()) -> Callable[[float, int], float]:
    """A function from the (fractional) epoch of a stage and its number of epochs to the factor."""
    found = targets.find(config["_target_"], "schedule", allow)
    parameters = targets.bind(
        found, "schedule", targets.arguments_of(config), "epoch", "max_epochs"
    )
    return lambda epoch, max_epochs: found(epoch, max_epochs, **parameters)


def share_batch_norm(model: nn.Module, on_gpu: bool) -> None:
    """Let every BatchNorm of ``model`` take its statistics over the batches of all ranks.

    Raises `InputError` where that cannot be: on the CPU, where torch has no `SyncBatchNorm`, and
    for another class than torch's own. Statistics of each share would be another training.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    foreign = [type(norm).__name__ for norm in norms if type(norm) not in kinds]
    if norms and (foreign or not on_gpu):
        where = f"{foreign[0]}" if foreign else "BatchNorm on the CPU"
        raise InputError(
            f"trainer.devices above 1 is not possible with {where}: it cannot be computed over all "
            "parts of a batch; use trainer.devices=1, or a model without it, such as model=mlp"
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(model)


def build_trainer(config: Config, callback: pl.Callback, rank: int = 0) -> pl.Trainer:
    """Lightning's trainer, with everything off that our own callback does.

    Of several GPUs it takes the one with the number ``rank``.
    """
    if config["accelerator"] == "gpu" and not torch.cuda.is_available():
        raise InputError("trainer.accelerator=gpu: there is no GPU here; use trainer=cpu or auto")
    cpu = config["accelerator"] == "cpu" or not torch.cuda.is_available()
    found = 0 if cpu else torch.cuda.device_count()
    if not cpu and config["devices"] > found:
        raise InputError(
            f"trainer.devices={config['devices']}: there {'is' if found == 1 else 'are'} {found} "
            f"GPU{'s' * (found != 1)} here; use trainer.devices={found}"
        )
    if config["precision"] == "16-mixed" and cpu:
        raise InputError("trainer.precision=16-mixed needs a GPU; on a CPU use bf16-mixed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Trainer(
            accelerator=config["accelerator"],
            devices=1 if cpu else [rank],
            precision=config["precision"],
            max_epochs=config["max_epochs"],
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            plugins=[OneFile()],
        )


class OneFile(TorchCheckpointIO):
    """Writes a checkpoint where it is told to.

    Lightning's own goes by way of the folder for temporary files, which may be another disk, and
    where a process that is killed leaves it for good.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` to ``path``; OSError where the disk is full."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())


def weights_fingerprint(module: nn.Module) -> str:
    """SHA-256 of the names and values of all parameters and buffers of ``module``."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
