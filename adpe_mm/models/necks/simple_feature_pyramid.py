"""The feature pyramid of ViTDet (Li et al., arXiv 2203.16527, section 3)."""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from adpe_mm.errors import UserError
from adpe_mm.registry import MODELS


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Makes all levels of a pyramid from the last feature map of a plain backbone.

    Args:
        in_channels: Channels E of the feature map.
        out_channels: Channels of each level.
        scale_factors: Size of each level over that of the feature map: 4, 2, 1 or 0.5. With
            patches of 16 px the default gives strides of 4, 8, 16 and 32 px.
        num_extra: Levels more at the coarse end, each half the size of the one before
            (subsampled, for the region proposals).
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: For another scale factor.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scale_factors: Sequence[float] = (4, 2, 1, 0.5),
        num_extra: int = 1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_extra = num_extra
        self.levels = ModuleList(
            self._level(in_channels, out_channels, scale) for scale in scale_factors
        )

    @staticmethod
    def _level(in_channels: int, out_channels: int, scale: float) -> nn.Sequential:
        if scale == 4:
            width = in_channels // 4
            resize = [
                nn.ConvTranspose2d(in_channels, in_channels // 2, 2, stride=2),
                LayerNorm2d(in_channels // 2, eps=1e-6),
                nn.GELU(),
                nn.ConvTranspose2d(in_channels // 2, width, 2, stride=2),
            ]
        elif scale == 2:
            width = in_channels // 2
            resize = [nn.ConvTranspose2d(in_channels, width, 2, stride=2)]
        elif scale == 1:
            width, resize = in_channels, []
        elif scale == 0.5:
            width, resize = in_channels, [nn.MaxPool2d(2, stride=2)]
        else:
            raise UserError(f'scale_factors may be 4, 2, 1 and 0.5, got {scale}')
        norm = dict(norm_cfg=dict(type=LayerNorm2d, eps=1e-6), act_cfg=None)
        return nn.Sequential(
            *resize,
            ConvModule(width, out_channels, 1, **norm),
            ConvModule(out_channels, out_channels, 3, padding=1, **norm),
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: Feature maps of the backbone; the last one, (B, E, R, C), is taken.

        Returns:
            One (B, out_channels, scale * R, scale * C) tensor a level, then the extra ones.
        """
        outs = [level(inputs[-1]) for level in self.levels]
        for _ in range(self.num_extra):
            outs.append(F.max_pool2d(outs[-1], kernel_size=1, stride=2))
        return tuple(outs)
