"""MAE+ and AdPE: masked image modelling with adversarial positions (arXiv 2303.07598).

Reads as the paper: mask (`AdPEPretrainViT`), predict (`AdPEDecoder`), compare (`MAEPlus`). The
adversary itself is in `models/layers/adversary.py`; it climbs the loss that is computed here.

Letters in shapes: B crops (pictures times crops a picture), H, W height and width in pixels,
p patch size, N patches, L = N + 1 tokens with cls, E encoder width, D decoder width.
Masks are True where a patch is removed.
"""

import torch
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor, nn

from adpe_mm.registry import MODELS

from ..backbones.adpe_vit import AdPEViT, Block, init_transformer_weights
from ..layers.adversary import AdversarialPosition
from ..layers.irpe import Perturbation
from ..layers.position import grid_coordinates, sincos_position, sincos_position_grid


@MODELS.register_module()
class AdPEPretrainViT(AdPEViT):
    """`AdPEViT` that hides patches behind mask tokens, at positions an adversary may move.

    Unlike MAE's, the encoder sees the mask tokens (MAE+): all N patches and cls.

    Args:
        mask_ratio: Fraction of the patches that is removed, in (0, 1).
        **kwargs: As of `AdPEViT`.

    Raises:
        ValueError: For a mask ratio outside (0, 1), or one that leaves or removes no patch.
    """

    def __init__(self, mask_ratio: float = 0.75, img_size=112, **kwargs) -> None:
        super().__init__(img_size=img_size, out_type='raw', out_indices=-1, **kwargs)
        if not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio must lie between 0 and 1, got {mask_ratio}')
        if any(side % self.patch_size for side in self.patch_embed.init_input_size):
            raise ValueError(
                f'patch_size {self.patch_size} must divide the crop, got img_size '
                f'{self.patch_embed.init_input_size}'
            )
        self.mask_ratio = mask_ratio
        self.num_kept(self.grid_size[0] * self.grid_size[1])
        self.pos_embed.requires_grad = False  # fixed sine-cosine
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))

    def init_weights(self) -> None:
        super().init_weights()
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)

    def num_kept(self, num_patches: int) -> int:
        """Number of visible patches of `num_patches`.

        Raises:
            ValueError: If that would be none or all.
        """
        kept = int(num_patches * (1 - self.mask_ratio))
        if not 0 < kept < num_patches:
            raise ValueError(
                f'mask_ratio {self.mask_ratio} keeps {kept} of {num_patches} patches: change it, '
                'or take a larger crop or smaller patches'
            )
        return kept

    def random_mask(self, noise: Tensor) -> Tensor:
        """Keep the patches with the smallest noise.

        Args:
            noise: (B, N), uniform in [0, 1).

        Returns:
            (B, N) bool, True where the patch is removed.
        """
        kept = noise.argsort(dim=1)[:, : self.num_kept(noise.shape[1])]
        return torch.ones_like(noise, dtype=torch.bool).scatter_(1, kept, False)

    def forward(
        self,
        x: Tensor,
        adversary: AdversarialPosition | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode crops of which most patches are masked.

        Args:
            x: (B, in_channels, H, W), sides multiples of the patch size.
            adversary: Moves the positions of masked patches; None is MAE+.
            noise: (B, N) that chooses the mask; drawn if None.

        Returns:
            The latent (B, L, E), normalised, and the mask (B, N), True where removed.

        Raises:
            ValueError: If the patch size does not divide the crop.
        """
        if any(side % self.patch_size for side in x.shape[2:]):
            raise ValueError(
                f'crops of {tuple(x.shape[2:])} px cannot be cut into patches of '
                f'{self.patch_size} px: change the size of MultiCrop'
            )
        x, grid_size = self.patch_embed(x)  # (B, N, E)
        if noise is None:
            noise = torch.rand(x.shape[:2], device=x.device)
        masked = self.random_mask(noise)

        mask_token = self.mask_token
        if adversary is not None and adversary.mask_token is not None:
            mask_token = adversary.mask_token
        x = torch.where(masked.unsqueeze(-1), mask_token, x)
        x = x + self._positions(grid_size, masked, adversary)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)  # cls: position 0

        perturbations = None
        if adversary is not None:
            perturbations = adversary.perturbations('encoder', masked, grid_size)
        return self.encode(x, grid_size, perturbations)[0], masked

    def _positions(
        self, grid_size: tuple[int, int], masked: Tensor, adversary: AdversarialPosition | None
    ) -> Tensor:
        """Absolute positions of the patches, (1, N, E), or (B, N, E) where they are shifted."""
        if grid_size == self.grid_size:
            position = self.pos_embed[:, 1:]
        else:
            position = sincos_position_grid(grid_size, self.embed_dims, masked.device)[:, 1:]
        if adversary is None or adversary.ape_shift is None:
            return position
        moved = grid_coordinates(grid_size, masked.device) + adversary.ape_shift
        return torch.where(masked.unsqueeze(-1), sincos_position(moved, self.embed_dims), position)


@MODELS.register_module()
class AdPEDecoder(BaseModule):
    """Narrow transformer that predicts the pixels of each patch.

    Args:
        in_dims: Width E of the encoder.
        patch_size: p, in pixels.
        in_channels: Channels of the picture.
        embed_dims: Width D of the decoder.
        num_layers: Number of blocks, at least 1.
        num_heads: Heads of a block.
        feedforward_ratio: Hidden width of the feed-forward network over D.
        position: 'ape' or 'rpe', as of the encoder.
        rpe_lookup: iRPE's look-up, as of the encoder.

    Raises:
        ValueError: Without a block.
    """

    def __init__(
        self,
        in_dims: int,
        patch_size: int,
        in_channels: int = 3,
        embed_dims: int = 512,
        num_layers: int = 8,
        num_heads: int = 16,
        feedforward_ratio: float = 4.0,
        position: str = 'ape',
        rpe_lookup: str = 'bucket',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_layers < 1:
            raise ValueError(f'the decoder needs num_layers of at least 1, got {num_layers}')
        self.embed_dims = embed_dims
        self.embed = nn.Linear(in_dims, embed_dims)
        self.layers = ModuleList(
            Block(
                embed_dims,
                num_heads,
                int(embed_dims * feedforward_ratio),
                rpe_lookup=rpe_lookup if position == 'rpe' else None,
            )
            for _ in range(num_layers)
        )
        self.ln1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.predict = nn.Linear(embed_dims, patch_size**2 * in_channels)

    def init_weights(self) -> None:
        super().init_weights()
        self.apply(init_transformer_weights)

    def forward(
        self,
        latent: Tensor,
        grid_size: tuple[int, int],
        perturbations: list[Perturbation] | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Predict patches.

        Args:
            latent: (B, L, E) of the encoder, cls in front.
            grid_size: Rows and columns of the patches.
            perturbations: One a block, of the adversary; or None.
            wanted: (B, M) indices of the patches to predict; None for all.

        Returns:
            (B, M or N, p * p * channels).
        """
        x = self.embed(latent)
        x = x + sincos_position_grid(grid_size, self.embed_dims, x.device)
        B, L, _ = x.shape
        if wanted is None:
            wanted = torch.arange(L - 1, device=x.device).expand(B, -1)
        # After the last attention a token sees itself only, so go on with those that are wanted.
        rows = (wanted + 1 + L * torch.arange(B, device=x.device).unsqueeze(1)).flatten()  # 1: cls
        for i, layer in enumerate(self.layers):
            is_last = i == len(self.layers) - 1
            perturbation = perturbations[i] if perturbations else None
            x = layer(x, grid_size, perturbation, rows if is_last else None)
        return self.predict(self.ln1(x)).unflatten(0, wanted.shape)


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, channels, H, W) -> (B, N, p * p * channels), patches row by row."""
    x = images.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))  # (B, c, R, p, C, p)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, grid_size: tuple[int, int], patch_size: int) -> Tensor:
    """Inverse of `patchify`: (B, N, p * p * channels) -> (B, channels, H, W)."""
    x = patches.unflatten(2, (patch_size, patch_size, -1)).unflatten(1, grid_size)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each patch, as the target's normalisation takes them.

    Args:
        patches: (B, N, p * p * channels).

    Returns:
        Two tensors of shape (B, N, 1); the variance is unbiased, and 1e-6 is added to it.
    """
    var, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (var + 1e-6).sqrt()


@MODELS.register_module()
class MAEPlus(BaseSelfSupervisor):
    """MAE+, and AdPE where an adversary moves the positions of the masked patches.

    The loss is the mean squared error on the masked patches. The network descends it, the
    adversary's parameters ascend it, both in one step of one optimiser (see
    `LayerDecayOptimWrapperConstructor`).

    Args:
        backbone: Config of an `AdPEPretrainViT`.
        neck: Config of an `AdPEDecoder`; what it must share with the backbone (widths, patch
            size, kind of position) is filled in.
        adversary: Config of an `AdversarialPosition`, or None for MAE+.
        normalize_target: Whether each patch of the target gets mean 0 and variance 1.
        data_preprocessor: Config of the preprocessor that normalises crops on the device.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: If the adversary and the kind of position do not fit.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        adversary: dict | None = None,
        normalize_target: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        encoder = MODELS.build(backbone)
        shared = dict(
            in_dims=encoder.embed_dims,
            patch_size=encoder.patch_size,
            in_channels=encoder.in_channels,
            position=encoder.position,
            rpe_lookup=encoder.rpe_lookup,
        )
        super().__init__(
            backbone=encoder,
            neck=MODELS.build({**shared, **neck}),
            data_preprocessor=data_preprocessor or dict(type='adpe_mm.MultiCropPreprocessor'),
            init_cfg=init_cfg,
        )
        self.normalize_target = normalize_target
        self.adversary = None
        if adversary is not None:
            self.adversary = self._build_adversary(adversary)
            if self.adversary.mask_token is not None:
                self.backbone.mask_token = None  # the adversary's token takes its place

    def _build_adversary(self, adversary: dict) -> AdversarialPosition:
        encoder, decoder = self.backbone, self.neck
        if (
            encoder.position == 'rpe'
            and adversary.get('mode') == 'coordinate'
            and encoder.rpe_lookup != 'interpolate'
        ):
            raise ValueError(
                "adversary.mode='coordinate' on relative positions needs "
                "backbone.rpe_lookup='interpolate': the bucket look-up has no gradient"
            )
        return MODELS.build(
            dict(
                position=encoder.position,
                embed_dims=encoder.embed_dims,
                encoder_head_dims=[layer.attn.head_dim for layer in encoder.layers],
                decoder_head_dims=[layer.attn.head_dim for layer in decoder.layers],
                **adversary,
            )
        )

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Features of unmasked crops, (B, channels, H, W) -> ((B, L, E),)."""
        return AdPEViT.forward(self.backbone, inputs)

    def predict_patches(self, inputs: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mask crops and predict their patches.

        Args:
            inputs: (B, channels, H, W), normalised.
            noise: (B, N) that chooses the mask; drawn if None.

        Returns:
            Predictions (B, N, p * p * channels) and the mask (B, N), True where removed.
        """
        latent, masked = self.backbone(inputs, self.adversary, noise)
        return self._decode(latent, masked, inputs.shape[2:]), masked

    def _decode(
        self, latent: Tensor, masked: Tensor, size: torch.Size, wanted: Tensor | None = None
    ) -> Tensor:
        """Predictions for crops of some size (H, W), of the `wanted` patches."""
        grid_size = tuple(side // self.backbone.patch_size for side in size)
        perturbations = None
        if self.adversary is not None:
            perturbations = self.adversary.perturbations('decoder', masked, grid_size)
        return self.neck(latent, grid_size, perturbations, wanted)

    def loss(
        self, inputs: Tensor, data_samples: list | None = None, noise: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Reconstruction loss of the masked patches.

        Args:
            inputs: (B, channels, H, W), normalised.
            data_samples: Unused; mmengine passes it.
            noise: (B, N) that chooses the mask; drawn if None.

        Returns:
            ``{'loss': 0-d tensor}``.
        """
        latent, masked = self.backbone(inputs, self.adversary, noise)
        # Only masked patches are compared, the same number M in each crop.
        N = masked.shape[1]
        order = masked.byte().sort(dim=1, descending=True, stable=True).indices
        removed = order[:, : N - self.backbone.num_kept(N)]  # (B, M)
        pred = self._decode(latent, masked, inputs.shape[2:], removed)
        target = patchify(inputs, self.backbone.patch_size)
        target = target.take_along_dim(removed.unsqueeze(-1), dim=1)
        if self.normalize_target:
            mean, deviation = patch_statistics(target)
            target = (target - mean) / deviation
        return dict(loss=(pred.float() - target).square().mean())

    @torch.no_grad()
    def reconstruct(self, inputs: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted pictures, for looking at.

        A normalised target says nothing of a patch's mean and contrast: they are taken from the
        true patch.

        Args:
            inputs: (B, channels, H, W), normalised.
            noise: (B, N) that chooses the mask; drawn if None.

        Returns:
            Pictures (B, channels, H, W), normalised as the inputs, every patch predicted; and the
            mask of pixels (B, 1, H, W), True where removed.
        """
        p = self.backbone.patch_size
        pred, masked = self.predict_patches(inputs, noise)
        pred = pred.float()
        if self.normalize_target:
            mean, deviation = patch_statistics(patchify(inputs, p))
            pred = pred * deviation + mean
        grid_size = tuple(side // p for side in inputs.shape[2:])
        pixels = masked.unflatten(1, grid_size).repeat_interleave(p, 1).repeat_interleave(p, 2)
        return unpatchify(pred, grid_size, p), pixels.unsqueeze(1)
