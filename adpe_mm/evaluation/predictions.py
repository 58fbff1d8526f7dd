"""What a classifier, segmentor or detector sees in images: predicted, drawn, and in files."""

from pathlib import Path
from types import MethodType

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, VISUALIZERS
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from adpe_mm.checkpoints import check_fits, find_weights, read_checkpoint
from adpe_mm.datasets.reading import UnreadableImage, why_unreadable
from adpe_mm.registry import MODELS, TRANSFORMS

from .attention_maps import attention_block, attention_maps, trace
from .drawing import as_rgb, attention_sheet, panel_size
from .prediction_files import Boxes, Masks, PredictionFiles, Scores, colour_of

SMALL = 256  # An image with a longer side of less is enlarged, or labels would cover it.


def enlarge(sample: BaseDataElement, factor: int) -> None:
    """Make the masks and boxes of a prediction so many times as large."""

    def repeat(masks: torch.Tensor) -> torch.Tensor:
        return masks.repeat_interleave(factor, -2).repeat_interleave(factor, -1)

    if 'pred_sem_seg' in sample:
        sample.pred_sem_seg = PixelData(data=repeat(sample.pred_sem_seg.data))
    if 'pred_instances' in sample:
        sample.pred_instances.bboxes *= factor
        if 'masks' in sample.pred_instances:
            sample.pred_instances.masks = repeat(sample.pred_instances.masks)


def label_map(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """The class of each pixel: arg max of the resized logits, which are never all there.

    Resized, those of 150 classes take 7 GB of an image of 12 megapixels.

    Args:
        logits: (classes, h, w).
        size: (H, W) to resize to, bilinearly.
        align_corners: See `torch.nn.functional.interpolate`.

    Returns:
        (H, W) int16; of equal logits the first class.
    """
    best = labels = None
    for label, plane in enumerate(logits):
        resized = F.interpolate(
            plane[None, None], size, mode='bilinear', align_corners=align_corners
        )
        if best is None:
            best, labels = resized, torch.zeros_like(resized, dtype=torch.int16)
            continue
        labels.masked_fill_(resized > best, label)
        torch.maximum(best, resized, out=best)
    return labels[0, 0]


def keep_labels_only(
    model: nn.Module, logits: Tensor, samples: list[BaseDataElement]
) -> list[BaseDataElement]:
    """`postprocess_result` of a segmentor of mmseg, in bounded memory: without the logits."""
    align_corners = model.align_corners
    height, width = logits.shape[2:]
    for sample, own in zip(samples, logits, strict=True):
        meta = sample.metainfo
        padding = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
        left, right, top, bottom = padding
        own = own[:, top : height - bottom, left : width - right]
        if meta.get('flip'):
            own = own.flip(2 if meta['flip_direction'] == 'horizontal' else 1)
        if len(own) > 1:
            labels = label_map(own, meta['ori_shape'], align_corners)
        else:
            resized = F.interpolate(
                own[None], meta['ori_shape'], mode='bilinear', align_corners=align_corners
            )
            labels = (resized.sigmoid() > model.decode_head.threshold)[0, 0].to(torch.int16)
        sample.pred_sem_seg = PixelData(data=labels[None])
    return samples


class Predictor:
    """A network of any of the three libraries, its pipeline of the test, and its visualizer.

    Args:
        cfg: Config of a task.
        checkpoint: Checkpoint file; it knows the classes.
        device: Where it runs.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is of another network.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str) -> None:
        content = read_checkpoint(checkpoint)
        weights = find_weights(content, checkpoint)
        self.scope = cfg.default_scope
        self.model = MODELS.build(cfg.model)
        check_fits(self.model, weights)
        self.model.load_state_dict(weights)
        self.model.to(device).eval()
        meta = content.get('meta', {}).get('dataset_meta') or {}
        self.meta = {key.lower(): value for key, value in meta.items()}
        if self.scope == 'mmseg':
            self.model.postprocess_result = MethodType(keep_labels_only, self.model)
            self._complete_meta(cfg)
        self.model.dataset_meta = self.meta
        steps = cfg.test_dataloader.dataset.pipeline
        with_truth = ('LoadAnnotations', 'LoadPanopticAnnotations')
        steps = [step for step in steps if step['type'].split('.')[-1] not in with_truth]
        self.pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        visualizer = dict(cfg.visualizer, name=f'predict_{id(self)}', vis_backends=None)
        self.visualizer = VISUALIZERS.build(visualizer)
        self.visualizer.dataset_meta = self.meta

    def _complete_meta(self, cfg: Config) -> None:
        """What masks need and the checkpoint may not tell."""
        if 'reduce_zero_label' not in self.meta:
            dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True))
            self.meta['reduce_zero_label'] = getattr(dataset, 'reduce_zero_label', False)
        labels = range(max(self.model.num_classes, 2))
        if not self.meta.get('classes'):
            self.meta['classes'] = [f'class {label}' for label in labels]
        if not self.meta.get('palette'):
            self.meta['palette'] = [list(colour_of(label)) for label in labels]

    def files(self, out: Path) -> PredictionFiles:
        """The files that the predictions of this task belong into, in a folder."""
        classes = self.meta.get('classes') or ()
        if self.scope == 'mmseg':
            return Masks(out, classes, self.meta['palette'], self.meta['reduce_zero_label'])
        return (Scores if self.scope == 'mmpretrain' else Boxes)(out, classes)

    def _prepared(self, path: str | Path, pixels: np.ndarray | None = None) -> dict:
        """A batch of one image, of its file, or of pixels in its place."""
        sample = dict(img_path=str(path), img_id=0, reduce_zero_label=False, seg_fields=[])
        steps = self.pipeline.transforms
        if pixels is not None:
            sample.update(img=pixels, img_shape=pixels.shape[:2], ori_shape=pixels.shape[:2])
            steps = steps[1:]
        for step in steps:
            sample = step(sample)
        return pseudo_collate([sample])

    def load(self, path: str | Path) -> dict:
        """A batch of one image.

        Raises:
            UnreadableImage: If the file is none, or so small or narrow that nothing is left of it.
        """
        try:
            return self._prepared(path)
        except UnreadableImage:
            raise
        except Exception as error:  # of mmcv's own loader, of a missing file, ...
            reason = why_unreadable(path)
            if reason is None and not isinstance(error, cv2.error):
                raise
            raise UnreadableImage(f"cannot read '{path}': {reason or error}") from error

    def opened(self, path: str | Path) -> np.ndarray:
        """(H, W, bands) as the pipeline opens it, whose pixels the results are of."""
        return self.pipeline.transforms[0](dict(img_path=str(path)))['img']

    @torch.no_grad()
    def predict(self, batch: dict) -> BaseDataElement:
        """The prediction for a batch of one image, of that image's size."""
        return self.model.test_step(batch)[0].cpu()

    def draw(self, path: str | Path, sample: BaseDataElement, out: Path, score: float) -> None:
        """Write the image with the prediction, which may be enlarged.

        Args:
            path: Of the image.
            sample: Of `predict`.
            out: PNG file.
            score: That boxes need to be drawn.
        """
        image = as_rgb(self.opened(path))
        out.parent.mkdir(parents=True, exist_ok=True)
        factor = -(-SMALL // max(image.shape[:2]))
        if factor > 1:
            image = image.repeat(factor, 0).repeat(factor, 1)
            enlarge(sample, factor)
        if self.scope == 'mmpretrain':
            self.visualizer.visualize_cls(
                image, sample, classes=self.meta.get('classes'), draw_gt=False, out_file=str(out)
            )
            return
        options = {}
        if self.scope == 'mmdet':
            found = sample.pred_instances
            sample.pred_instances = found[found.scores > score]  # masks may be large
            options['pred_score_thr'] = score
        self.visualizer.add_datasample(
            out.stem, image, sample, draw_gt=False, out_file=str(out), **options
        )

    def attention(self, path: str | Path, batch: dict, shape: tuple[int, int]) -> np.ndarray:
        """The attention of each head of the backbone, over the image as it is opened.

        Args:
            path: Of the image.
            batch: Of `load`.
            shape: (height, width) of the maps.

        Returns:
            (heads, *shape): see `attention_maps`.
        """
        attention_block(self.model.backbone)
        height, width, *bands = self.opened(path).shape
        prepare = self.model.data_preprocessor

        def run(pixels: np.ndarray) -> Tensor:
            repeated = np.repeat(pixels[..., None], bands[0], 2) if bands else pixels
            return prepare(self._prepared(path, repeated), False)['inputs'][0]

        axes = trace(run, (height, width))
        inputs = prepare(batch, False)['inputs']
        return attention_maps(self.model, inputs, axes, (height, width), shape)

    def attention_sheet(self, path: str | Path, batch: dict) -> Image.Image:
        """The image, then for each head the same with its attention, side by side."""
        image = as_rgb(self.opened(path))
        shape = panel_size(image.shape[:2])
        return attention_sheet(image, self.attention(path, batch, shape))
