"""Loads a checkpoint whole, or refuses it."""

import hashlib
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from adpe_mm.models import AdPEViT
from adpe_mm.registry import HOOKS
from adpe_mm.utils.checkpoint import (
    check_fits,
    describe_pretraining,
    find_weights,
    is_pretraining,
    read_checkpoint,
)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def unwrap(model: nn.Module) -> nn.Module:
    """The network itself, without DDP or test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Raises where mmengine would only log that a checkpoint does not fit, and train on.

    A checkpoint of pretraining that is loaded for another task (``load_from``) gives its backbone,
    and leaves decoder and adversary behind. What a task began from is kept in its checkpoints, in
    the message hub under 'pretraining': ``method``, ``variant``, ``checkpoint`` and ``sha256``.

    Raises:
        ValueError: When a checkpoint is loaded or resumed that is of another architecture.
    """

    def __init__(self) -> None:
        self.origin = dict(method='scratch', variant=None, checkpoint=None, sha256=None)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = unwrap(runner.model)
        weights = find_weights(checkpoint)
        transfer = is_pretraining(weights) and not is_pretraining(model.state_dict())
        if not transfer or not isinstance(model.backbone, AdPEViT):
            check_fits(model, weights)
            return
        model.backbone.load_pretrained(weights)
        self.origin = _origin(getattr(runner, '_load_from', None), weights)
        runner.logger.info(f'began from {self.origin}; decoder and adversary are left behind')
        # What the runner loads after this: the whole network, backbone included.
        checkpoint['state_dict'] = model.state_dict()

    def before_train(self, runner: Runner) -> None:
        hub, model = runner.message_hub, unwrap(runner.model)
        resumed = 'pretraining' in hub.runtime_info
        if resumed or is_pretraining(model.state_dict()):
            return
        init_cfg = getattr(getattr(model, 'backbone', None), 'init_cfg', None)
        if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
            path = init_cfg['checkpoint']
            self.origin = _origin(path, find_weights(read_checkpoint(path, 'meta')))
        hub.update_info('pretraining', self.origin)


def _origin(path: str | None, weights: dict) -> dict:
    known = path is not None and Path(path).is_file()
    return dict(
        describe_pretraining(weights), checkpoint=path, sha256=file_hash(path) if known else None
    )
