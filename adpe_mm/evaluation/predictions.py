"""What a classifier, segmentor or detector sees in images, drawn over them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, VISUALIZERS
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image

from adpe_mm.checkpoints import check_fits, find_weights, read_checkpoint
from adpe_mm.datasets import find_images
from adpe_mm.errors import UserError
from adpe_mm.models import AdPEViT
from adpe_mm.registry import MODELS, TRANSFORMS

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


def images_to_draw(cfg: Config, names: list[str], limit: int) -> list[Path]:
    """The first of the images that are named, or of the test set if none is.

    Raises:
        FileNotFoundError: If one is missing.
    """
    if names:
        return list(map(Path, find_images(names)[:limit]))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    number = min(limit, len(dataset))
    return [Path(dataset.get_data_info(i)['img_path']) for i in range(number)]


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
        self.model = MODELS.build(cfg.model)
        check_fits(self.model, weights)
        self.model.load_state_dict(weights)
        self.model.to(device).eval()
        meta = content.get('meta', {}).get('dataset_meta') or {}
        self.meta = {key.lower(): value for key, value in meta.items()}
        self.model.dataset_meta = self.meta
        steps = cfg.test_dataloader.dataset.pipeline
        with_truth = ('LoadAnnotations', 'LoadPanopticAnnotations')
        steps = [step for step in steps if step['type'].split('.')[-1] not in with_truth]
        self.pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        self.scope = cfg.default_scope
        visualizer = dict(cfg.visualizer, name=f'predict_{id(self)}', vis_backends=None)
        self.visualizer = VISUALIZERS.build(visualizer)
        self.visualizer.dataset_meta = self.meta

    def load(self, path: Path) -> dict:
        """A batch of one image."""
        info = dict(img_path=str(path), img_id=0, reduce_zero_label=False, seg_fields=[])
        return pseudo_collate([self.pipeline(info)])

    def opened(self, path: Path) -> np.ndarray:
        """(H, W, 3) uint8, RGB: what the pipeline opens, whose pixels the results are of."""
        bgr = self.pipeline.transforms[0](dict(img_path=str(path)))['img']
        return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)

    @torch.no_grad()
    def draw(self, path: Path, batch: dict, out: Path, score: float) -> None:
        """Predict, and write the image with the prediction."""
        (sample,) = self.model.test_step(batch)
        image = self.opened(path)
        factor = -(-SMALL // max(image.shape[:2]))
        if factor > 1:
            image = image.repeat(factor, 0).repeat(factor, 1)
            enlarge(sample, factor)
        if self.scope == 'mmpretrain':
            self.visualizer.visualize_cls(
                image, sample, classes=self.meta.get('classes'), draw_gt=False, out_file=str(out)
            )
            return
        options = dict(pred_score_thr=score) if self.scope == 'mmdet' else {}
        self.visualizer.add_datasample(
            out.stem, image, sample, draw_gt=False, out_file=str(out), **options
        )

    def attention(self, path: Path, batch: dict) -> Iterator[Image.Image]:
        """The image, then a heat map over it for each head."""
        backbone = self.model.backbone
        if not isinstance(backbone, AdPEViT):
            raise UserError('--attention needs adpe_mm.AdPEViT as backbone')
        block = [layer for layer in backbone.layers if not layer.window_size][-1]
        seen = []
        handle = block.attn.register_forward_pre_hook(lambda module, args: seen.append(args[:2]))
        with torch.no_grad():
            self.model.test_step(batch)
        handle.remove()
        x, grid_size = seen[0]
        weights = block.attn.weights(x[:1], grid_size)[0]  # (H, L, L)
        extra = backbone.num_extra_tokens
        maps = weights[:, 0, extra:] if extra else weights.mean(dim=1)
        image = Image.fromarray(self.opened(path))
        yield image
        for heat in maps.unflatten(1, grid_size).float().cpu().numpy():
            heat = (heat - heat.min()) / max(heat.max() - heat.min(), 1e-12)
            colours = Image.fromarray((255 * colormaps['inferno'](heat)[..., :3]).astype(np.uint8))
            yield Image.blend(image, colours.resize(image.size, Image.Resampling.BICUBIC), 0.6)

    def attention_sheet(self, path: Path, batch: dict) -> Image.Image:
        """The panels of `attention` side by side."""
        panels = list(self.attention(path, batch))
        width, height = panels[0].size
        sheet = Image.new('RGB', (width * len(panels), height))
        for i, panel in enumerate(panels):
            sheet.paste(panel, (i * width, 0))
        return sheet
