"""One Vision Transformer for pretraining, classification, segmentation and detection.

Letters in shapes: B batch, H, W height and width in pixels, R, C rows and columns of the patch
grid, N = R * C patches, L = N + 1 tokens with cls, E embedding width.
"""

from collections.abc import Sequence

import torch
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import FFN, PatchEmbed
from mmengine.model import BaseModule, ModuleList
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from adpe_mm.registry import MODELS

from ..layers.attention import Attention
from ..layers.irpe import Perturbation
from ..layers.position import resize_pos_embed, sincos_position_grid

ARCHITECTURES = {
    'ti': dict(embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768),
    's': dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536),
    'b': dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072),
    'l': dict(embed_dims=1024, num_layers=24, num_heads=16, feedforward_channels=4096),
    'h': dict(embed_dims=1280, num_layers=32, num_heads=16, feedforward_channels=5120),
}
ALIASES = {'tiny': 'ti', 'small': 's', 'base': 'b', 'large': 'l', 'huge': 'h'}
POSITIONS = ('ape', 'rpe')
OUT_TYPES = ('cls_token', 'avg_featmap', 'featmap', 'raw')


def architecture(arch: str | dict) -> dict:
    """Sizes of a named architecture, or a custom one after a check.

    Raises:
        ValueError: For an unknown name or a dict that lacks a size.
    """
    if isinstance(arch, str):
        name = ALIASES.get(arch.lower(), arch.lower())
        if name not in ARCHITECTURES:
            raise ValueError(
                f"unknown arch '{arch}': choose one of {sorted(ARCHITECTURES)} or give a dict with "
                f'{sorted(ARCHITECTURES["b"])}'
            )
        return dict(ARCHITECTURES[name])
    missing = set(ARCHITECTURES['b']) - set(arch)
    if missing:
        raise ValueError(f'a custom arch must also give {sorted(missing)}')
    return dict(arch)


class Block(BaseModule):
    """Pre-norm transformer block, with mmpretrain's parameter names.

    Args:
        embed_dims: Width of the tokens.
        num_heads: Heads of the attention.
        feedforward_channels: Hidden width of the feed-forward network.
        drop_path_rate: Probability to skip a branch for one sample (stochastic depth).
        rpe_lookup: None for no relative position, else iRPE's look-up.
        rpe_scaled_query: See `Attention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        drop_path_rate: float = 0.0,
        rpe_lookup: str | None = None,
        rpe_scaled_query: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.ln1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = Attention(embed_dims, num_heads, rpe_lookup, rpe_scaled_query)
        self.ln2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.ffn = FFN(
            embed_dims,
            feedforward_channels,
            act_cfg=dict(type='GELU'),
            add_identity=False,
        )
        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self, x: Tensor, grid_size: tuple[int, int], perturbation: Perturbation | None = None
    ) -> Tensor:
        """(B, L, E) -> (B, L, E); for the other arguments see `Attention.forward`."""
        x = x + self.drop_path(self.attn(self.ln1(x), grid_size, perturbation))
        return x + self.drop_path(self.ffn(self.ln2(x)))


def init_transformer_weights(module: nn.Module) -> None:
    """MAE's initialisation of one module: Xavier-uniform weights, zero biases, unit norms."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


@MODELS.register_module()
class AdPEViT(BaseModule):
    """Vision Transformer with absolute or relative positions.

    With ``position='ape'`` its state dict is that of mmpretrain's `VisionTransformer`. Absolute
    positions are interpolated to any input size, those of a checkpoint to `img_size`; relative
    ones (iRPE) need no change.

    Args:
        arch: 'ti', 's', 'b', 'l', 'h', or a dict with ``embed_dims``, ``num_layers``,
            ``num_heads`` and ``feedforward_channels``.
        img_size: Most common input size in pixels, (H, W) or one number. It sets the grid of the
            absolute positions; other sizes work too.
        patch_size: Side of a patch in pixels; 16, and 14 for 'h', by default.
        in_channels: Channels of the picture.
        position: 'ape' (absolute only) or 'rpe' (absolute and iRPE in every block).
        rpe_lookup: iRPE's look-up, 'bucket' or 'interpolate'. Keep the one of pretraining.
        rpe_scaled_query: Scale the query of iRPE's term, as in pretraining. False is the official
            fine-tuning code's form, for parity.
        out_type: 'cls_token' (B, E); 'avg_featmap', the normalised mean of the patches (B, E);
            'featmap' (B, E, R, C); 'raw' (B, L, E).
        out_indices: Blocks whose outputs are returned; negative ones count from the end.
        final_norm: Whether the output of the last block is normalised.
        drop_path_rate: Stochastic depth of the last block, from 0 at the first linearly.
        interpolate_mode: How absolute positions are resized.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: For an unknown arch, position, look-up, out_type or block index.
    """

    num_extra_tokens = 1  # cls

    def __init__(
        self,
        arch: str | dict = 'b',
        img_size: int | tuple[int, int] = 224,
        patch_size: int | None = None,
        in_channels: int = 3,
        position: str = 'ape',
        rpe_lookup: str = 'bucket',
        rpe_scaled_query: bool = True,
        out_type: str = 'cls_token',
        out_indices: int | Sequence[int] = -1,
        final_norm: bool = True,
        drop_path_rate: float = 0.0,
        interpolate_mode: str = 'bicubic',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if position not in POSITIONS:
            raise ValueError(f"position must be one of {POSITIONS}, got '{position}'")
        if out_type not in OUT_TYPES:
            raise ValueError(f"out_type must be one of {OUT_TYPES}, got '{out_type}'")
        sizes = architecture(arch)
        if patch_size is None:
            patch_size = 14 if arch in ('h', 'huge') else 16
        self.embed_dims: int = sizes['embed_dims']
        self.num_layers: int = sizes['num_layers']
        self.num_heads: int = sizes['num_heads']
        self.in_channels = in_channels
        self.patch_size = patch_size
        self.position = position
        self.rpe_lookup = rpe_lookup
        self.out_type = out_type
        self.out_indices = self._block_indices(out_indices)
        self.interpolate_mode = interpolate_mode

        # An input that patch_size does not divide is padded at its right and bottom.
        self.patch_embed = PatchEmbed(
            in_channels=in_channels,
            embed_dims=self.embed_dims,
            kernel_size=patch_size,
            stride=patch_size,
            padding='corner',
            input_size=to_2tuple(img_size),
        )
        self.grid_size: tuple[int, int] = self.patch_embed.init_out_size  # (R, C)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
        self.pos_embed = nn.Parameter(sincos_position_grid(self.grid_size, self.embed_dims))
        self.register_load_state_dict_pre_hook(_resize_loaded_positions)
        self.layers = ModuleList(
            Block(
                self.embed_dims,
                self.num_heads,
                sizes['feedforward_channels'],
                drop_path_rate=rate,
                rpe_lookup=rpe_lookup if position == 'rpe' else None,
                rpe_scaled_query=rpe_scaled_query,
            )
            for rate in torch.linspace(0, drop_path_rate, self.num_layers, device='cpu').tolist()
        )
        if final_norm:
            self.ln1 = nn.LayerNorm(self.embed_dims, eps=1e-6)
        self.final_norm = final_norm
        if out_type == 'avg_featmap':
            self.ln2 = nn.LayerNorm(self.embed_dims, eps=1e-6)

    def _block_indices(self, out_indices: int | Sequence[int]) -> list[int]:
        indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        if not all(-self.num_layers <= i < self.num_layers for i in indices):
            raise ValueError(
                f'out_indices must name blocks of the {self.num_layers} there are, got {indices}'
            )
        return [i % self.num_layers for i in indices]

    def init_weights(self) -> None:
        """MAE's initialisation, unless `init_cfg` loads a checkpoint."""
        super().init_weights()
        if isinstance(self.init_cfg, dict) and self.init_cfg.get('type') == 'Pretrained':
            return
        self.apply(init_transformer_weights)
        # A patch embedding is a linear layer on pixels: the fan is of the flattened weight.
        nn.init.xavier_uniform_(self.patch_embed.projection.weight.data.flatten(1))
        nn.init.zeros_(self.patch_embed.projection.bias)
        nn.init.normal_(self.cls_token, std=0.02)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            x: (B, in_channels, H, W).

        Returns:
            One tensor for each of `out_indices`, of the shape that `out_type` says.
        """
        x, grid_size = self.patch_embed(x)  # (B, N, E)
        position = resize_pos_embed(
            self.pos_embed, self.grid_size, grid_size, self.interpolate_mode, self.num_extra_tokens
        )
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + position
        outs = self.encode(x, grid_size)
        return tuple(self._format_output(out, grid_size) for out in outs)

    def encode(
        self,
        x: Tensor,
        grid_size: tuple[int, int],
        perturbations: Sequence[Perturbation] | None = None,
    ) -> list[Tensor]:
        """Run the blocks on tokens that already know their positions.

        Args:
            x: (B, L, E).
            grid_size: (R, C).
            perturbations: One a block, of the adversary; or None.

        Returns:
            The (B, L, E) outputs of the blocks in `out_indices`.
        """
        outs = {}
        for i, layer in enumerate(self.layers):
            x = layer(x, grid_size, perturbations[i] if perturbations else None)
            if i == self.num_layers - 1 and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                outs[i] = x
        return [outs[i] for i in self.out_indices]

    def _format_output(self, x: Tensor, grid_size: tuple[int, int]) -> Tensor:
        if self.out_type == 'raw':
            return x
        if self.out_type == 'cls_token':
            return x[:, 0]
        patches = x[:, self.num_extra_tokens :]
        if self.out_type == 'avg_featmap':
            return self.ln2(patches.mean(dim=1))
        return patches.transpose(1, 2).unflatten(2, grid_size)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay.

        Args:
            param_name: Full name of the parameter.
            prefix: What stands before the names of this backbone, such as 'backbone.'.

        Returns:
            The depth: 0 for the patch embedding, positions and cls, i + 1 for block i,
            num_layers + 1 for all else; and the number of depths, num_layers + 2.
        """
        last = self.num_layers + 1
        if not param_name.startswith(prefix):
            return last, last + 1
        name = param_name[len(prefix) :]
        if name in ('cls_token', 'pos_embed', 'mask_token') or name.startswith('patch_embed.'):
            return 0, last + 1
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, last + 1
        return last, last + 1


def _resize_loaded_positions(module: AdPEViT, state_dict: dict, prefix: str, *args) -> None:
    """Interpolate a checkpoint's absolute positions to this network's grid."""
    key = prefix + 'pos_embed'
    loaded = state_dict.get(key)
    if loaded is None or loaded.shape == module.pos_embed.shape:
        return
    side = round((loaded.shape[1] - module.num_extra_tokens) ** 0.5)
    if side * side != loaded.shape[1] - module.num_extra_tokens:
        raise ValueError(
            f'cannot tell rows from columns in {key} of shape {tuple(loaded.shape)}: only those of '
            f'a square grid can be resized; resize them to {module.grid_size} patches first'
        )
    state_dict[key] = resize_pos_embed(
        loaded, (side, side), module.grid_size, module.interpolate_mode, module.num_extra_tokens
    )
