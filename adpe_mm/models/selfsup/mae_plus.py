"""MAE+ and AdPE: masked image modelling with adversarial positions (arXiv 2303.07598).

Reads as the paper: **mask** patches of each crop, **encode** the crop with mask tokens in their
place, **decode** to pixels, **compare** with the true ones. `MAEPlus.loss` is these four lines.

The network and an adversary play a min-max game on that loss::

    min over theta  max over delta, ||delta|| <= eps   loss(theta, delta)

theta are the weights, delta the positions (or embeddings) of masked patches, by which the adversary
makes the task harder. Both move in one step of one optimiser, without an inner loop:

- ascent: the parameters of the adversary (`adpe_mm/models/adversaries.py`) are a group with
  ``maximize=True`` of `LayerDecayOptimWrapperConstructor` (`adpe_mm/engine/optim.py`);
- projection: after the step, `AdversaryProjectionHook` (`adpe_mm/engine/hooks/adversary.py`) puts
  delta back into the ball of radius eps;
- descent: all other parameters, in the optimiser's other groups.

Without an adversary this is MAE+. `reference.py` has the same method in plain torch, step by step.

Letters in shapes: B crops (images times crops per image), H, W height and width in pixels,
p patch size, R, C rows and columns of the patch grid, N = R * C patches, M of them masked,
L = N + 1 tokens (cls and patches), E encoder width, D decoder width.
Masks are True where a patch is masked, that is, hidden from the encoder.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor, nn

from adpe_mm.errors import UserError
from adpe_mm.registry import MODELS

from ..adversaries import Adversary, NoAdversary
from ..backbones.adpe_vit import AdPEViT, Block, init_transformer_weights
from ..data_preprocessor import check_statistics
from ..layers.position import grid_coordinates, sincos_position, sincos_position_grid


@dataclass(frozen=True)
class Mask:
    """Which patches of each crop are masked: M of N, the same number in every crop.

    Attributes:
        masked: (B, N) bool, True where a patch is masked.
        indices: (B, M) of the masked patches, in the order of the image.
        grid_size: (R, C).
    """

    masked: Tensor
    indices: Tensor
    grid_size: tuple[int, int]


@MODELS.register_module()
class AdPEPretrainViT(AdPEViT):
    """Mask and encode: `AdPEViT` that sees mask tokens, at positions an adversary may move.

    Unlike MAE's, the encoder sees the mask tokens (MAE+): all N patches and cls. Called as a
    module it is an `AdPEViT` and extracts features of whole images.

    Args:
        mask_ratio: Fraction of the patches that is masked, in (0, 1).
        img_size: Most common size of a crop in pixels, (H, W) or one number.
        rpe_lookup: iRPE's look-up; a coordinate adversary needs 'interpolate'.
        **kwargs: See `AdPEViT`.

    Raises:
        ValueError: For a mask ratio outside (0, 1), or one that masks no patch or all.
    """

    def __init__(
        self,
        mask_ratio: float = 0.75,
        img_size: int | tuple[int, int] = 112,
        rpe_lookup: str | None = 'bucket',
        **kwargs,
    ) -> None:
        super().__init__(
            img_size=img_size, rpe_lookup=rpe_lookup, out_type='raw', out_indices=-1, **kwargs
        )
        if not 0 < mask_ratio < 1:
            raise UserError(f'mask_ratio must lie between 0 and 1, got {mask_ratio}')
        self.mask_ratio = mask_ratio
        self.check_crop(self.patch_embed.init_input_size)
        self.pos_embed.requires_grad = False  # fixed sine-cosine
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)

    def fit_positions(self, loaded: Tensor) -> Tensor:
        """This network's own positions: they are fixed, and count the patches of a crop.

        Interpolated ones would be others than those that the adversary moves.

        Raises:
            ValueError: If the checkpoint was trained with positions that are not sine-cosine, of
                which nothing would be left.
        """
        side = round((loaded.shape[1] - 1) ** 0.5)
        grid_size = self.grid_size if loaded.shape == self.pos_embed.shape else (side, side)
        fixed = sincos_position_grid(grid_size, self.embed_dims, loaded.device)
        if loaded.shape != fixed.shape or (loaded - fixed).abs().max() > 0.01:  # of half precision
            raise UserError(
                'pos_embed of the checkpoint is not the fixed sine-cosine grid that pretraining '
                'has: begin from a checkpoint of MAE+ or AdPE, or from one of MAE that '
                'tools/model_converters/mae_to_adpe.py wrote, not from one of a task'
            )
        return self.pos_embed.detach()

    def num_visible(self, num_patches: int) -> int:
        """N - M of N patches."""
        return int(num_patches * (1 - self.mask_ratio))

    def check_crop(self, size: tuple[int, int]) -> None:
        """Make sure that crops of a size (H, W) in pixels can be masked.

        Raises:
            ValueError: If the patch size does not divide it, or no patch would be masked, or all.
        """
        p = self.patch_size
        if any(side % p for side in size):
            raise UserError(
                f'crops of {tuple(size)} px cannot be cut into patches of {p} px: patch_size must '
                'divide the crop, which is img_size of the backbone and size of MultiCrop'
            )
        num_patches = size[0] // p * (size[1] // p)
        visible = self.num_visible(num_patches)
        if not 0 < visible < num_patches:
            raise UserError(
                f'mask_ratio {self.mask_ratio} keeps {visible} of {num_patches} patches: change '
                'it, or take a larger crop or smaller patches'
            )

    def draw_mask(self, images: Tensor, noise: Tensor | None = None) -> Mask:
        """Mask the patches with the largest noise.

        Args:
            images: (B, in_channels, H, W).
            noise: (B, N), uniform in [0, 1); drawn if None.

        Returns:
            The mask of ``M = N - int(N * (1 - mask_ratio))`` patches per crop.

        Raises:
            ValueError: If such crops cannot be masked, see `check_crop`.
        """
        size = images.shape[2:]
        self.check_crop(size)
        R, C = grid_size = tuple(side // self.patch_size for side in size)
        if noise is None:
            noise = torch.rand(len(images), R * C, device=images.device)
        indices = noise.argsort(dim=1)[:, self.num_visible(R * C) :].sort(dim=1).values  # (B, M)
        masked = torch.zeros_like(noise, dtype=torch.bool).scatter_(1, indices, True)  # (B, N)
        return Mask(masked, indices, grid_size)

    def encode_masked(self, images: Tensor, mask: Mask, adversary: Adversary) -> Tensor:
        """Encode crops whose masked patches are replaced by mask tokens.

        Args:
            images: (B, in_channels, H, W).
            mask: Which patches are masked.
            adversary: What it does to them.

        Returns:
            The latent (B, L, E), normalised, cls in front.
        """
        x, _ = self.patch_embed(images)  # (B, N, E)
        masked = mask.masked.unsqueeze(-1)  # (B, N, 1)
        mask_token = adversary.mask_token  # (1, 1, E)
        if mask_token is None:
            mask_token = self.mask_token

        if mask.grid_size == self.grid_size:
            position = self.pos_embed[:, 1:]  # (1, N, E)
        else:
            position = sincos_position_grid(mask.grid_size, self.embed_dims, x.device)[:, 1:]
        moved = adversary.move(grid_coordinates(mask.grid_size, x.device))  # (N, 2)
        at = position if moved is None else sincos_position(moved, self.embed_dims)
        x = torch.where(masked, mask_token + at, x + position)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)  # cls: position 0

        perturbations = adversary.perturbations('encoder', mask.masked, mask.grid_size)
        return self.encode(x, mask.grid_size, perturbations)[0]


@MODELS.register_module()
class AdPEDecoder(BaseModule):
    """Decode: a narrow transformer that predicts the pixels of each patch.

    Args:
        in_dims: Width E of the encoder.
        patch_size: p, in pixels.
        in_channels: Channels of the image.
        embed_dims: Width D of the decoder.
        num_layers: Number of blocks, at least 1.
        num_heads: Heads per block.
        feedforward_ratio: Hidden width of the feed-forward network over D.
        position: 'ape' or 'rpe', the encoder's.
        rpe_lookup: iRPE's look-up, the encoder's.
        init_cfg: mmengine's initialisation config.

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
        rpe_lookup: str | None = 'bucket',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_layers < 1:
            raise UserError(f'the decoder needs num_layers of at least 1, got {num_layers}')
        self.embed_dims = embed_dims
        self.embed = nn.Linear(in_dims, embed_dims)
        self.layers = ModuleList(
            Block(
                embed_dims,
                num_heads,
                int(embed_dims * feedforward_ratio),
                position=position,
                rpe_lookup=rpe_lookup,
            )
            for _ in range(num_layers)
        )
        self.ln1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.predict = nn.Linear(embed_dims, patch_size**2 * in_channels)

    def init_weights(self) -> None:
        super().init_weights()
        self.apply(init_transformer_weights)

    def forward(
        self, latent: Tensor, mask: Mask, adversary: Adversary, masked_only: bool = False
    ) -> Tensor:
        """Predict patches.

        Args:
            latent: (B, L, E) of the encoder, cls in front.
            mask: Which patches are masked.
            adversary: What it does to them.
            masked_only: Whether the masked patches alone are predicted.

        Returns:
            (B, N, p * p * channels), or (B, M, p * p * channels) in the order of `mask.indices`.
        """
        x = self.embed(latent)  # (B, L, D)
        x = x + sincos_position_grid(mask.grid_size, self.embed_dims, x.device)
        perturbations = adversary.perturbations('decoder', mask.masked, mask.grid_size)
        B, L, _ = x.shape
        every = torch.arange(L - 1, device=x.device).expand(B, -1)
        patches = mask.indices if masked_only else every
        # After the last attention a token sees only itself: go on with those to be predicted.
        tokens = patches + 1 + L * torch.arange(B, device=x.device).unsqueeze(1)  # 1: cls
        for i, layer in enumerate(self.layers):
            is_last = i == len(self.layers) - 1
            perturbation = perturbations[i] if perturbations else None
            x = layer(x, mask.grid_size, perturbation, tokens.flatten() if is_last else None)
        return self.predict(self.ln1(x)).unflatten(0, patches.shape)


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, channels, H, W) -> (B, N, p * p * channels), patches row by row."""
    x = images.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))  # (B, c, R, p, C, p)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def take_patches(patches: Tensor, indices: Tensor) -> Tensor:
    """Some patches of each crop: (B, N, channels) and (B, M) indices -> (B, M, channels)."""
    B, N, _ = patches.shape
    rows = indices + N * torch.arange(B, device=indices.device).unsqueeze(1)
    return patches.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, indices.shape)


def unpatchify(patches: Tensor, grid_size: tuple[int, int], patch_size: int) -> Tensor:
    """Inverse of `patchify`: (B, N, p * p * channels) -> (B, channels, H, W)."""
    x = patches.unflatten(2, (patch_size, patch_size, -1)).unflatten(1, grid_size)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, for the normalisation of the target.

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
    adversary ascends it (see the top of this file).

    Args:
        backbone: Config of an `AdPEPretrainViT`.
        neck: Config of an `AdPEDecoder`; what it must share with the backbone (widths, patch
            size, kind of position) is filled in.
        adversary: Config of an adversary, such as ``dict(type='adpe_mm.AdversarialPosition',
            mode='coordinate')``, see `adpe_mm/models/adversaries.py`; None for MAE+.
        normalize_target: Whether each patch of the target gets mean 0 and variance 1, over all its
            pixels and bands together, as in MAE.
        data_preprocessor: Config of the preprocessor that normalises crops on the device: ``mean``
            and ``std`` of as many bands as the backbone takes; ImageNet's by default.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: If the adversary and the backbone do not fit, or mean and std are of another
            number of bands.
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
            data_preprocessor={
                'type': 'adpe_mm.MultiCropPreprocessor',
                **(data_preprocessor or {}),
            },
            init_cfg=init_cfg,
        )
        check_statistics(self.data_preprocessor, encoder.in_channels)
        self.normalize_target = normalize_target
        self.adversary: Adversary = NoAdversary()
        if adversary is not None:
            self.adversary = MODELS.build(dict(adversary, encoder=encoder, decoder=self.neck))
        if self.adversary.mask_token is not None:
            self.backbone.mask_token = None  # the adversary's token takes its place

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
        mask = self.backbone.draw_mask(inputs, noise)
        latent = self.backbone.encode_masked(inputs, mask, self.adversary)  # (B, L, E)
        pred = self.neck(latent, mask, self.adversary, masked_only=True)  # (B, M, p * p * channels)
        return dict(loss=F.mse_loss(pred.float(), self.target(inputs, mask)))

    def target(self, inputs: Tensor, mask: Mask) -> Tensor:
        """What the masked patches are compared with, (B, M, p * p * channels)."""
        target = take_patches(patchify(inputs, self.backbone.patch_size), mask.indices)
        if self.normalize_target:
            mean, deviation = patch_statistics(target)
            target = (target - mean) / deviation
        return target

    def predict_patches(self, inputs: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Mask]:
        """Mask crops and predict all their patches.

        Args:
            inputs: (B, channels, H, W), normalised.
            noise: (B, N) that chooses the mask; drawn if None.

        Returns:
            Predictions (B, N, p * p * channels) and the mask.
        """
        mask = self.backbone.draw_mask(inputs, noise)
        latent = self.backbone.encode_masked(inputs, mask, self.adversary)
        return self.neck(latent, mask, self.adversary), mask

    @torch.no_grad()
    def reconstruct(self, inputs: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted images, to be looked at.

        A normalised target says nothing of a patch's mean and contrast: they are taken from the
        true patch.

        Args:
            inputs: (B, channels, H, W), normalised.
            noise: (B, N) that chooses the mask; drawn if None.

        Returns:
            Images (B, channels, H, W), normalised like the inputs, every patch predicted; and the
            mask of pixels (B, 1, H, W), True where masked.
        """
        p = self.backbone.patch_size
        pred, mask = self.predict_patches(inputs, noise)
        pred = pred.float()
        if self.normalize_target:
            mean, deviation = patch_statistics(patchify(inputs, p))
            pred = pred * deviation + mean
        pixels = mask.masked.unflatten(1, mask.grid_size)
        pixels = pixels.repeat_interleave(p, 1).repeat_interleave(p, 2)
        return unpatchify(pred, mask.grid_size, p), pixels.unsqueeze(1)
