"""Networks for programs without this package: ONNX files, and those of torch.export (.pt2).

Backbone, classifier and segmentor become one function of a batch of images, of any batch size. The
size of the images is fixed: positions, iRPE's look-up and windows are laid out for one grid.
"""

import importlib.util
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from adpe_mm.errors import MachineError, UserError

from .api import get_model
from .checkpoints import check_fits, describe, find_weights, read_checkpoint, read_config
from .checkpoints.describing import DESCRIPTION
from .models import AdPEViT, check_statistics
from .registry import MODELS

SCOPES = {'classification': 'mmpretrain', 'segmentation': 'mmseg'}
INPUT = 'images'
TRACED, CHECKED = 2, 3  # Batch sizes.
MOST = 2**31 - 1  # Of a batch: torch 2.6 needs a limit.


class Export(NamedTuple):
    """What was exported.

    Attributes:
        shape: (channels, H, W) of an image, in pixels.
        outputs: Name and shape of each output, of a batch of `CHECKED`.
        difference: Between the file's outputs and the network's, the largest over all entries,
            divided by the largest output if that is above 1; None if nothing could run the file.
    """

    shape: tuple[int, int, int]
    outputs: dict[str, tuple[int, ...]]
    difference: float | None


class ExportableNetwork(nn.Module):
    """A network as one function of images.

    Args:
        network: An `AdPEViT`, an mmpretrain classifier or an mmseg segmentor.

    Attributes:
        outputs: Names of what `forward` returns; several outputs of a backbone are numbered in
            the order of its `out_indices`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # A preprocessor that does not normalise has neither.
        preprocessor = network.data_preprocessor
        check_statistics(preprocessor, self.backbone.in_channels)
        self.register_buffer('mean', getattr(preprocessor, 'mean', torch.zeros(1)).clone())
        self.register_buffer('std', getattr(preprocessor, 'std', torch.ones(1)).clone())
        if not isinstance(network, AdPEViT):
            self.outputs = ['logits']
        elif len(network.out_indices) == 1:
            self.outputs = ['features']
        else:
            self.outputs = [f'features_{i}' for i, _ in enumerate(network.out_indices)]

    @property
    def backbone(self) -> AdPEViT:
        """The network itself, or what its head stands on."""
        return self.network if isinstance(self.network, AdPEViT) else self.network.backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features or logits of images.

        Args:
            images: (B, channels, H, W), float32 from 0 to 255, in the order of channels that the
                mean of the config has: RGB in all configs of this package, else that of the files.

        Returns:
            Of a backbone one tensor per output block; of a classifier the logits (B, K); of a
            segmentor the logits of each pixel (B, K, H, W), of the whole image at once.
        """
        images = (images - self.mean) / self.std
        if isinstance(self.network, AdPEViT):
            return self.network(images)
        if hasattr(self.network, 'encode_decode'):
            return (self.network.encode_decode(images, [dict(img_shape=images.shape[2:])]),)
        return (self.network(images),)


def load_exportable(path: str | Path, features: str | None = None) -> ExportableNetwork:
    """The network of a checkpoint, built from the config that is stored in it.

    Args:
        path: Of pretraining, of which the backbone is taken, of a classifier or of a segmentor.
        features: To take the backbone of any of them, an ``out_type`` of `AdPEViT`. Of pretraining
            it is 'raw', all tokens, by default.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of a detector, or holds no config of its task.
    """
    checkpoint = read_checkpoint(path)
    task = describe(checkpoint)['task']
    if features or task == 'pretraining':
        return ExportableNetwork(get_model(path, out_type=features or 'raw')).eval()
    if task not in SCOPES:
        raise UserError(
            f"'{path}' is of {task}, whose boxes are no function of fixed shape: export its "
            'backbone with --features featmap'
        )
    config, scope = read_config(checkpoint), SCOPES[task]
    if not config:
        raise UserError(
            f"'{path}' holds no config, from which its network could be built: give the checkpoint "
            'that training wrote, or export the backbone alone with --features'
        )
    if importlib.util.find_spec(scope) is None:
        raise UserError(f"'{path}' is of {task}, which needs {scope}: see docs/install.md")
    with DefaultScope.overwrite_default_scope(scope), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about losses
        network = MODELS.build(ConfigDict(config))
    if not isinstance(network.backbone, AdPEViT):
        raise UserError(f"'{path}' is of a network without an AdPEViT: export it with its library")
    weights = find_weights(checkpoint, path)
    check_fits(network, weights)
    network.load_state_dict(weights)
    return ExportableNetwork(network).eval()


def export_model(
    path: str | Path,
    out: str | Path,
    size: tuple[int, int] | None = None,
    features: str | None = None,
) -> Export:
    """Write the network of a checkpoint as a file that needs no code of this package.

    The file is run before it gets its name, with another batch size than it was traced with. It
    tells what it is, see `describe`: ``adpe_mm`` in ONNX's metadata, ``adpe_mm.json`` among the
    extra files of a .pt2.

    Args:
        path: The checkpoint, see `load_exportable`.
        out: .onnx or .pt2.
        size: (H, W) of the images; that of the config by default.
        features: See `load_exportable`.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it cannot be exported, a library is missing, or `out` is of another format.
        RuntimeError: If the file does not give the outputs of the network.
    """
    out = Path(out)
    if out.suffix not in FORMATS:
        raise UserError(f"'{out}' must end with {' or '.join(FORMATS)}")
    write, open_file, tolerance = FORMATS[out.suffix]
    network = load_exportable(path, features)
    backbone = network.backbone
    size = size or tuple(n * backbone.patch_size for n in backbone.grid_size)
    generator = torch.Generator().manual_seed(0)
    traced, images = (
        255 * torch.rand(batch, backbone.in_channels, *size, generator=generator)
        for batch in (TRACED, CHECKED)
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), tempfile.TemporaryDirectory(dir=out.parent) as folder:
        expected = network(images)
        program = torch.export.export(
            network,
            (traced,),
            dynamic_shapes=({0: torch.export.Dim('batch', max=MOST)},),
            strict=False,
        )
        written = Path(folder, out.name)
        write(program, written, network.outputs, json.dumps(describe(read_checkpoint(path))))
        run = open_file(written)
        difference = None
        if run is not None:
            difference = max(map(_difference, run(images), expected))
            if not difference <= tolerance:  # NaN neither
                raise MachineError(
                    f"the outputs of '{out}' differ from those of the network by {difference:.1e}, "
                    f'and {tolerance:.0e} is allowed: it was not written; please report this'
                )
        for file in Path(folder).iterdir():  # beside a large ONNX file lie its weights
            os.replace(file, out.parent / file.name)
    shapes = (tuple(value.shape) for value in expected)
    return Export(
        (backbone.in_channels, *size), dict(zip(network.outputs, shapes, strict=True)), difference
    )


def _difference(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float('inf')
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1))


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, outputs: list[str], description: str
) -> None:
    missing = [name for name in ('onnx', 'onnxscript') if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'to write ONNX, pip install {" ".join(missing)} onnxruntime')
    exported = torch.onnx.export(
        program, dynamo=True, input_names=[INPUT], output_names=outputs, verbose=False
    )
    exported.model.metadata_props[DESCRIPTION] = description
    exported.save(str(path))


def _open_onnx(path: Path) -> Callable[[Tensor], list[Tensor]] | None:
    if importlib.util.find_spec('onnxruntime') is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda images: list(map(torch.from_numpy, session.run(None, {INPUT: images.numpy()})))


def _write_pt2(
    program: torch.export.ExportedProgram, path: Path, outputs: list[str], description: str
) -> None:
    torch.export.save(program, path, extra_files={f'{DESCRIPTION}.json': description})


def _open_pt2(path: Path) -> Callable[[Tensor], tuple[Tensor, ...]]:
    return torch.export.load(path).module()


# How a format is written and run, and how much its outputs may differ.
FORMATS = {
    '.onnx': (_write_onnx, _open_onnx, 1e-4),
    '.pt2': (_write_pt2, _open_pt2, 1e-5),
}
