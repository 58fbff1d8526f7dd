"""One Vision Transformer for pretraining, classification, segmentation and detection.

Letters in shapes: B batch, H, W height and width in pixels, R, C rows and columns of the patch
grid, N = R * C patches, L = N + 1 tokens with cls, E embedding width.
"""

from collections.abc import Sequence

import torch
from mmcv.cnn.bricks.transformer import FFN, PatchEmbed
from mmengine.logging import print_log
from mmengine.model import BaseModule, ModuleList
from mmengine.utils import to_2tuple
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adpe_mm.checkpoints import check_fits, fit_kernel, load_weights
from adpe_mm.errors import UserError
from adpe_mm.registry import MODELS

from ..layers.attention import Attention
from ..layers.drop_path import DropPath
from ..layers.irpe import OF_SCRATCH, Perturbation
from ..layers.norm import BranchNorm
from ..layers.position import resize_pos_embed, sincos_position_grid
from ..layers.windows import from_windows, to_windows

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

    Of the weights of another library nothing tells the heads: ``num_heads=None`` stands for those
    of the named architecture of the same sizes.

    Raises:
        ValueError: For an unknown name, a dict that lacks a size, or heads that nothing tells.
    """
    if isinstance(arch, str):
        name = ALIASES.get(arch.lower(), arch.lower())
        if name not in ARCHITECTURES:
            raise UserError(
                f"unknown arch '{arch}': choose one of {sorted(ARCHITECTURES)} or give a dict with "
                f'{sorted(ARCHITECTURES["b"])}'
            )
        return dict(ARCHITECTURES[name])
    missing = set(ARCHITECTURES['b']) - set(arch)
    if missing:
        raise UserError(f'a custom arch must also give {sorted(missing)}')
    if arch['num_heads'] is None:
        for named in ARCHITECTURES.values():
            if dict(named, num_heads=None) == arch:
                return dict(named)
        raise UserError(f'nothing tells the number of heads of {arch}: state arch.num_heads')
    return dict(arch)


class Block(BaseModule):
    """Pre-norm transformer block, with mmpretrain's parameter names.

    Args:
        embed_dims: Width of the tokens.
        num_heads: Heads of the attention.
        feedforward_channels: Hidden width of the feed-forward network.
        drop_path_rate: Probability to skip a branch for one sample (stochastic depth).
        position: 'ape', or 'rpe' for iRPE.
        rpe_lookup: iRPE's look-up, see `ImageRelativePosition`.
        rpe_scaled_query: See `Attention`.
        decomposed_rpe_size: See `Attention`.
        rel_pos_bias_size: See `Attention`.
        window_size: Side in patches of the windows that attention stays in; 0 for none.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        drop_path_rate: float = 0.0,
        position: str = 'ape',
        rpe_lookup: str | None = None,
        rpe_scaled_query: bool = True,
        decomposed_rpe_size: tuple[int, int] | None = None,
        rel_pos_bias_size: tuple[int, int] | None = None,
        window_size: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.window_size = window_size
        self.ln1 = BranchNorm(embed_dims, eps=1e-6)
        self.attn = Attention(
            embed_dims,
            num_heads,
            position,
            rpe_lookup,
            rpe_scaled_query,
            decomposed_rpe_size,
            rel_pos_bias_size,
        )
        self.ln2 = BranchNorm(embed_dims, eps=1e-6)
        self.ffn = FFN(
            embed_dims,
            feedforward_channels,
            act_cfg=dict(type='GELU'),
            add_identity=False,
        )
        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self,
        x: Tensor,
        grid_size: tuple[int, int],
        perturbation: Perturbation | None = None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """Transform tokens.

        Args:
            x: (B, L, E).
            grid_size: See `Attention.forward`.
            perturbation: See `Attention.forward`.
            tokens: (M,) indices of ``x.flatten(0, 1)``: the tokens that are returned, after they
                have attended to all of their sequence. None for all.

        Returns:
            (B, L, E), or (M, E) with `tokens`.
        """
        x, y = self.ln1.branch(x)
        if self.window_size:
            # The padding is attended to, as in ViTDet.
            y = to_windows(y, grid_size, self.window_size)
            y = self.attn(y, (self.window_size, self.window_size))
            y = from_windows(y, grid_size, self.window_size)
        else:
            y = self.attn(y, grid_size, perturbation)
        x = x + self.drop_path(y)
        if tokens is not None:
            x = x.flatten(0, 1).index_select(0, tokens)
        x, y = self.ln2.branch(x)
        return x + self.drop_path(self.ffn(y))


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

    Give it a pretrained checkpoint, of ours or mmpretrain's, by
    ``init_cfg=dict(type='Pretrained', checkpoint='x.pth', prefix='backbone.')``: it loads without
    running any code in the file, leaves decoder and adversary behind, and raises if anything
    else is missing or left over.

    For detection as ViTDet (Li et al., arXiv 2203.16527): ``window_size=14, with_cls_token=False,
    final_norm=False, out_type='featmap'`` and, with absolute positions, ``decomposed_rpe=True``.

    Args:
        arch: 'ti', 's', 'b', 'l', 'h', or a dict with ``embed_dims``, ``num_layers``,
            ``num_heads`` and ``feedforward_channels``; see `architecture`.
        img_size: Most common input size in pixels, (H, W) or one number. It sets the grid of the
            absolute positions; other sizes work too.
        pretrain_img_size: Input size that the absolute positions are kept for, where they shall
            not grow with `img_size`: they are interpolated at every step then, as in ViTDet.
        patch_size: Side of a patch in pixels; 16, and 14 for 'h', by default.
        in_channels: Bands of the images: see `fit_channels`.
        position: 'ape' (absolute only) or 'rpe' (absolute and iRPE in every block).
        rpe_lookup: iRPE's look-up, 'bucket' or 'interpolate'; a checkpoint of another one is
            refused. None, as pretrained, takes that of the checkpoint that is loaded, and
            'interpolate' from scratch, which the log says.
        rpe_scaled_query: Scale the query of iRPE's term, as in pretraining. False is the official
            fine-tuning code's form, for parity.
        out_type: 'cls_token' (B, E); 'avg_featmap', the normalised mean of the patches (B, E);
            'featmap' (B, E, R, C); 'raw' (B, L, E).
        out_indices: Blocks whose outputs are returned; negative ones count from the end.
        final_norm: Whether the output of the last block is normalised.
        with_cls_token: Whether there is a cls token; windows have no place for it.
        window_size: Side in patches of the windows that attention stays in; 0 for none.
        global_blocks: Blocks that attend globally nevertheless; with windows the last one of each
            quarter by default.
        decomposed_rpe: Whether each block has ViTDet's decomposed relative positions; those of
            a checkpoint are the same in number only at the same `img_size` and `window_size`.
        rel_pos_bias: Whether each block has BEiT's relative position bias, 0 at first, as
            mmsegmentation's MAE has; for ``position='ape'``, to be trained in fine-tuning. As
            many numbers as at the same `img_size` and `window_size`, too.
        frozen_stages: -1 freezes nothing, 0 embedding and positions, i also the first i blocks,
            and `num_layers` the final norm too. What is frozen stays in evaluation mode.
        with_cp: Whether blocks keep only their input and compute all else again in backward.
        drop_path_rate: Stochastic depth of the last block, from 0 at the first linearly.
        interpolate_mode: How absolute positions are resized.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: For an unknown arch, position, look-up, out_type or block index, for a cls
            token where there can be none, or for a bias beside iRPE.
    """

    def __init__(
        self,
        arch: str | dict = 'b',
        img_size: int | tuple[int, int] = 224,
        pretrain_img_size: int | tuple[int, int] | None = None,
        patch_size: int | None = None,
        in_channels: int = 3,
        position: str = 'ape',
        rpe_lookup: str | None = None,
        rpe_scaled_query: bool = True,
        out_type: str = 'cls_token',
        out_indices: int | Sequence[int] = -1,
        final_norm: bool = True,
        with_cls_token: bool = True,
        window_size: int = 0,
        global_blocks: Sequence[int] | None = None,
        decomposed_rpe: bool = False,
        rel_pos_bias: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        interpolate_mode: str = 'bicubic',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if position not in POSITIONS:
            raise UserError(f"position must be one of {POSITIONS}, got '{position}'")
        if out_type not in OUT_TYPES:
            raise UserError(f"out_type must be one of {OUT_TYPES}, got '{out_type}'")
        if with_cls_token and (window_size or decomposed_rpe):
            raise UserError('window_size and decomposed_rpe need with_cls_token=False')
        if not with_cls_token and out_type == 'cls_token':
            raise UserError("out_type='cls_token' needs with_cls_token=True")
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
        self.out_indices = self.block_indices('out_indices', out_indices)
        self.num_extra_tokens = int(with_cls_token)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
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
        if with_cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
        self.position_grid_size = self.grid_size
        if pretrain_img_size is not None:
            height, width = to_2tuple(pretrain_img_size)
            self.position_grid_size = height // patch_size, width // patch_size
        position_grid = sincos_position_grid(self.position_grid_size, self.embed_dims)
        # Cls is in front.
        self.pos_embed = nn.Parameter(position_grid[:, 1 - self.num_extra_tokens :].clone())
        self.register_load_state_dict_pre_hook(_fit_loaded_positions)
        if global_blocks is None:
            global_blocks = [(i + 1) * self.num_layers // 4 - 1 for i in range(4)]
        global_blocks = self.block_indices('global_blocks', global_blocks)
        drop_path_rates = torch.linspace(0, drop_path_rate, self.num_layers, device='cpu').tolist()
        self.layers = ModuleList()
        for i, rate in enumerate(drop_path_rates):
            windowed = window_size and i not in global_blocks
            attended = (window_size, window_size) if windowed else self.grid_size
            self.layers.append(
                Block(
                    self.embed_dims,
                    self.num_heads,
                    sizes['feedforward_channels'],
                    drop_path_rate=rate,
                    position=position,
                    rpe_lookup=rpe_lookup,
                    rpe_scaled_query=rpe_scaled_query,
                    decomposed_rpe_size=attended if decomposed_rpe else None,
                    rel_pos_bias_size=attended if rel_pos_bias else None,
                    window_size=window_size if windowed else 0,
                )
            )
        if final_norm:
            self.ln1 = nn.LayerNorm(self.embed_dims, eps=1e-6)
        self.final_norm = final_norm
        if out_type == 'avg_featmap':
            self.ln2 = nn.LayerNorm(self.embed_dims, eps=1e-6)
        self._freeze()

    def block_indices(self, name: str, blocks: int | Sequence[int]) -> list[int]:
        """Blocks counted from the front, given by an option of that name.

        Raises:
            ValueError: If there are no such blocks.
        """
        indices = [blocks] if isinstance(blocks, int) else list(blocks)
        if not all(-self.num_layers <= i < self.num_layers for i in indices):
            raise UserError(
                f'{name} must name blocks of the {self.num_layers} there are, got {indices}'
            )
        return [i % self.num_layers for i in indices]

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        self.pos_embed.requires_grad = False
        if self.num_extra_tokens:
            self.cls_token.requires_grad = False
        frozen = [self.patch_embed, *self.layers[: self.frozen_stages]]
        if self.frozen_stages >= self.num_layers and self.final_norm:
            frozen.append(self.ln1)
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'AdPEViT':
        """Training or evaluation mode, but of what is not frozen."""
        super().train(mode)
        self._freeze()
        return self

    def init_weights(self) -> None:
        """MAE's initialisation, then the checkpoint that `init_cfg` may name.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            ValueError: If it is of another network, or cannot be read as weights only.
        """
        pretrained = isinstance(self.init_cfg, dict) and self.init_cfg.get('type') == 'Pretrained'
        if not pretrained:
            super().init_weights()
        self.reset_parameters()
        if pretrained:
            weights = load_weights(self.init_cfg['checkpoint'])
            self.load_pretrained(weights, self.init_cfg.get('prefix'))
            self._is_init = True
        elif self.position == 'rpe' and self.rpe_lookup is None:
            print_log(
                f"rpe_lookup is not stated: '{OF_SCRATCH}' from scratch, or that of the "
                'checkpoint, if one is loaded',
                logger='current',
            )

    def reset_parameters(self) -> None:
        """MAE's initialisation, and nothing else: mmengine's own logs each parameter."""
        self.apply(init_transformer_weights)
        # A patch embedding is a linear layer on pixels: the fan is of the flattened weight.
        nn.init.xavier_uniform_(self.patch_embed.projection.weight.data.flatten(1))
        nn.init.zeros_(self.patch_embed.projection.bias)
        if self.num_extra_tokens:
            nn.init.normal_(self.cls_token, std=0.02)

    def load_pretrained(self, weights: dict[str, Tensor], prefix: str | None = None) -> None:
        """Load what was pretrained, and make sure that it is this network.

        The patch kernel and the absolute positions may be of another size: they are interpolated.
        Of RGB, the kernel becomes one of other bands: see `kernel_of_bands`.

        Args:
            weights: A state dict. Arrays whose names do not start with `prefix` are left behind.
            prefix: What stands before the names of the backbone; ``'backbone.'`` where names begin
                so, else nothing, if it is None.

        Raises:
            ValueError: If an array is missing, left over or of another shape, except for those
                that pretraining has or has not by its nature.
        """
        if prefix is None:
            prefix = 'backbone.' if any(name.startswith('backbone.') for name in weights) else ''
        own = {
            name.removeprefix(prefix): value
            for name, value in weights.items()
            if name.startswith(prefix)
        }
        name = 'patch_embed.projection.weight'
        if name in own:
            own[name] = fit_kernel(own[name], self.patch_embed.projection.weight.shape)
        # New are the norm of the mean (avg_featmap) and what learns positions in a task alone.
        learnt = r'layers\.\d+\.attn\.(decomposed_rpe|rel_pos_bias)\..*'
        allowed = [r'mask_token', r'ln2\..*', learnt]
        if not self.final_norm:
            allowed.append(r'ln1\..*')
        if not self.num_extra_tokens:
            allowed.append('cls_token')
        check_fits(self, own, allowed)
        expected = self.state_dict()
        own = {name: value for name, value in own.items() if name in expected}
        self.load_state_dict(own, strict=False)

    def fit_positions(self, loaded: Tensor) -> Tensor:
        """Interpolate a checkpoint's absolute positions to the grid of this network's.

        Args:
            loaded: (1, any number, E), with cls in front or without.

        Returns:
            A tensor of the shape of `pos_embed`, without cls if this network has none.

        Raises:
            ValueError: If they must be resized and are not those of a square grid.
        """
        if loaded.shape == self.pos_embed.shape:
            return loaded
        extra = self.num_extra_tokens
        if not extra and round(loaded.shape[1] ** 0.5) ** 2 != loaded.shape[1]:
            loaded = loaded[:, 1:]  # of cls
        side = round((loaded.shape[1] - extra) ** 0.5)
        if side * side != loaded.shape[1] - extra:
            raise UserError(
                f'cannot tell rows from columns in pos_embed of shape {tuple(loaded.shape)}: only '
                'those of a square grid can be resized; resize them first, to '
                f'{self.position_grid_size} patches'
            )
        return resize_pos_embed(
            loaded, (side, side), self.position_grid_size, self.interpolate_mode, extra
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            x: (B, in_channels, H, W).

        Returns:
            One tensor for each of `out_indices`, of the shape that `out_type` says.
        """
        x, grid_size = self.patch_embed(x)  # (B, N, E)
        position = resize_pos_embed(
            self.pos_embed,
            self.position_grid_size,
            grid_size,
            self.interpolate_mode,
            self.num_extra_tokens,
        )
        if self.num_extra_tokens:
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = x + position
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
            perturbations: One per block, of the adversary; or None.

        Returns:
            The (B, L, E) outputs of the blocks in `out_indices`.
        """
        outs = {}
        for i, layer in enumerate(self.layers):
            perturbation = perturbations[i] if perturbations else None
            if self.with_cp and x.requires_grad:
                x = checkpoint(layer, x, grid_size, perturbation, use_reentrant=False)
            else:
                x = layer(x, grid_size, perturbation)
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


def _fit_loaded_positions(module: AdPEViT, state_dict: dict, prefix: str, *args) -> None:
    key = prefix + 'pos_embed'
    if key in state_dict:
        state_dict[key] = module.fit_positions(state_dict[key])
