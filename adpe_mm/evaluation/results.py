"""What a test measured, in a file that tables are made of."""

import platform
from datetime import datetime
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

from adpe_mm.checkpoints import pretraining_of
from adpe_mm.models.backbones.adpe_vit import ALIASES
from adpe_mm.version import LIBRARIES, __version__, installed_distributions

FORMAT = 'adpe_mm.test/1'
TASKS = {'mmpretrain': 'cls', 'mmseg': 'seg', 'mmdet': 'det'}
HEADS = {
    'ImageClassifier': 'linear',
    'EncoderDecoder': 'UperNet',
    'FasterRCNN': 'Faster R-CNN',
    'MaskRCNN': 'Mask R-CNN',
    'CascadeRCNN': 'Cascade Mask R-CNN',
}
# Data set, by the name of its class, number of classes and number of test images.
DATASETS = {
    ('ImageNet', 1000, 50000): 'ImageNet-1K',
    ('ADE20KDataset', 150, 2000): 'ADE20K',
    ('CocoDataset', 80, 5000): 'COCO',
}


def describe_test(
    cfg: Config,
    dataset,
    checkpoint: dict,
    metrics: dict[str, float],
) -> dict:
    """What was tested and what came out, without paths and hashes.

    Args:
        cfg: Config of the test.
        dataset: The data set that was tested on.
        checkpoint: The whole checkpoint: it knows the pretraining.
        metrics: Of the evaluators.

    Returns:
        Dict of plain values. ``dataset`` is 'ImageNet-1K', 'ADE20K' or 'COCO' only if it is the
        whole validation set of that name; images of `make_mini.py` are 'mini scenes'.
    """
    backbone = cfg.model.backbone
    arch = backbone.get('arch', 'b')
    classes = dataset.metainfo.get('classes') or ()
    kind = type(dataset).__name__, len(classes), len(dataset)
    root = Path(cfg.test_dataloader.dataset.get('data_root') or '.')
    drawn = root.parent / 'meta.json'  # of make_mini.py
    mini = drawn.is_file() and '"make_mini' in drawn.read_text(encoding='utf-8')
    return dict(
        format=FORMAT,
        task=TASKS.get(cfg.get('default_scope'), cfg.get('default_scope')),
        dataset=DATASETS.get(kind) or ('mini scenes' if mini else root.name),
        protocol=_protocol(cfg),
        backbone=_network(arch),
        size=backbone.get('img_size'),
        bias=bool(backbone.get('rel_pos_bias')),
        task_epochs=_coco_epochs(cfg),
        position=backbone.get('position', 'ape').upper(),
        head=head_of(cfg.model),
        pretraining=pretraining_of(checkpoint),
        seed=checkpoint.get('meta', {}).get('seed'),
        tta=bool(cfg.get('tta')),
        metrics=metrics,
        versions=versions(),
        device=device_name(),
        date=datetime.now().isoformat(timespec='seconds'),
    )


def _protocol(cfg: Config) -> str:
    if cfg.model.backbone.get('frozen_stages', -1) > 0:
        return 'linear probing'
    subset = cfg.get('train_dataloader', {}).get('dataset', {}).get('subset')
    return f'fine-tuning on {Path(subset).stem}' if subset else 'fine-tuning'


def _coco_epochs(cfg: Config) -> int | None:
    """Epochs of COCO's 118,000 images that a detector was trained for."""
    iterations, batch = cfg.get('train_cfg', {}).get('max_iters'), cfg.get('auto_scale_lr')
    if cfg.get('default_scope') != 'mmdet' or not iterations or not batch:
        return None
    return round(iterations * batch.base_batch_size / 118000)


def head_of(model: ConfigDict) -> str:
    """Name of what stands on the backbone, as tables have it."""
    name = HEADS.get(model.type, model.type)
    with_mask = model.get('roi_head', {}).get('mask_head')
    return name if with_mask else name.replace('Cascade Mask', 'Cascade')


def _network(arch: str | dict) -> str:
    if isinstance(arch, str):
        return f'ViT-{ALIASES.get(arch.lower(), arch).capitalize()}'
    return f'ViT {arch["embed_dims"]} x {arch["num_layers"]}'


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries it stands on."""
    found = {'adpe_mm': __version__, 'python': platform.python_version()}
    for library in LIBRARIES:
        for version in installed_distributions(library).values():
            found[library.module] = version
    return found


def device_name() -> str:
    """The GPU, or the CPU and its number of threads in use."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        model = next(line.split(':')[1].strip() for line in lines if 'model name' in line)
    except (OSError, StopIteration):
        model = platform.machine()
    return f'{model}, {torch.get_num_threads()} threads'
