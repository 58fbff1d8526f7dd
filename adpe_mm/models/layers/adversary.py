"""The adversarial positional module: a few position parameters that climb the loss.

AdPE (arXiv 2303.07598, section 3): the positions of masked patches are trained by gradient ascent
on the reconstruction loss that the network descends, each followed by a projection onto a ball.

|            | absolute positions (`position='ape'`) | relative positions (`position='rpe'`)       |
|------------|---------------------------------------|---------------------------------------------|
| embedding  | the mask token itself (1, 1, E)       | per block, added to the iRPE table of       |
|            |                                       | masked queries, (D, 50)                     |
| coordinate | one shift (dx, dy) of masked patches  | per block, a shift (rows, columns) of the   |
|            |                                       | offsets of masked queries                   |
"""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from adpe_mm.registry import MODELS

from .irpe import NUM_BUCKETS, Perturbation
from .irpe_kernels import moved_weights

MODES = ('embedding', 'coordinate')
NORMS = (None, 'l2', 'linf')


@MODELS.register_module()
class AdversarialPosition(BaseModule):
    """Holds the adversarial position parameters, and projects them.

    The optimiser must *maximise* over them: `LayerDecayOptimWrapperConstructor` puts the
    parameters of this module into a group of their own with ``maximize=True``, and
    `AdversaryProjectionHook` calls `project` after each step.

    A config names `mode`, `norm` and `eps`; the algorithm fills in the sizes of the network.

    Args:
        mode: 'embedding' or 'coordinate'.
        norm: Ball of the projection, per tensor: None, 'l2' or 'linf'.
        eps: Radius of the ball, 0 or more; in patches for 'coordinate', in units of the embedding
            for 'embedding'. Unused without `norm`.
        per_bucket: For embeddings on iRPE: one vector a bucket (True), or the official code's
            single vector for all of them (False), which moves all logits of a row alike so that
            softmax cancels it: kept to load official checkpoints.
        position: 'ape' or 'rpe', of the network.
        embed_dims: Width E of the encoder.
        encoder_head_dims: Head width D of each block of the encoder.
        decoder_head_dims: Head width D of each block of the decoder.

    Raises:
        ValueError: For an unknown mode or norm, or a radius that is missing or below 0.
    """

    def __init__(
        self,
        mode: str,
        norm: str | None = None,
        eps: float | None = None,
        per_bucket: bool = True,
        *,
        position: str,
        embed_dims: int,
        encoder_head_dims: list[int],
        decoder_head_dims: list[int],
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if mode not in MODES:
            raise ValueError(f"adversary.mode must be one of {MODES}, got '{mode}'")
        if norm not in NORMS:
            raise ValueError(f"adversary.norm must be one of {NORMS}, got '{norm}'")
        if norm is not None and (eps is None or not eps >= 0):
            raise ValueError(
                f'adversary.eps, the radius of the {norm} ball, must be 0 or more, got {eps}'
            )
        self.mode, self.norm, self.eps, self.position = mode, norm, eps, position
        self.per_bucket = per_bucket
        if position == 'ape':
            shape = (1, 1, embed_dims) if mode == 'embedding' else (2,)
            self.ape = nn.Parameter(torch.zeros(shape))
        else:
            width = NUM_BUCKETS if per_bucket else 1
            self.encoder, self.decoder = (
                nn.ParameterList(
                    torch.zeros((dim, width) if mode == 'embedding' else (2,)) for dim in head_dims
                )
                for head_dims in (encoder_head_dims, decoder_head_dims)
            )

    def extra_repr(self) -> str:
        return f"mode='{self.mode}', norm={self.norm!r}, eps={self.eps}"

    def init_weights(self) -> None:
        """Embeddings start at normal(0, 0.02), shifts at 0, as officially."""
        super().init_weights()
        if self.mode == 'embedding':
            for param in self.parameters():
                nn.init.normal_(param, std=0.02)

    @property
    def mask_token(self) -> Tensor | None:
        """(1, 1, E) token that takes the place of the network's mask token, or None."""
        return self.ape if self.position == 'ape' and self.mode == 'embedding' else None

    @property
    def ape_shift(self) -> Tensor | None:
        """(2,) shift (dx, dy) in patches of the absolute positions of masked patches, or None."""
        return self.ape if self.position == 'ape' and self.mode == 'coordinate' else None

    def perturbations(
        self, part: str, masked: Tensor, grid_size: tuple[int, int]
    ) -> list[Perturbation] | None:
        """What each block of a network does to its relative positions.

        Args:
            part: 'encoder' or 'decoder'.
            masked: (B, N) bool, True where a patch is masked.
            grid_size: Rows and columns of the patches.

        Returns:
            One `Perturbation` a block, or None with absolute positions.
        """
        if self.position == 'ape':
            return None
        params = getattr(self, part)
        if self.mode == 'embedding':
            return [Perturbation(masked, delta=delta) for delta in params]
        moved = moved_weights(torch.stack(list(params)), grid_size)  # of all blocks in one go
        return [
            Perturbation(masked, shift=shift, moved=weights)
            for shift, weights in zip(params, moved, strict=True)
        ]

    @torch.no_grad()
    def project(self) -> None:
        """Put each parameter back into its ball of radius eps (projected gradient ascent)."""
        for param in self.parameters():
            if self.norm == 'linf':
                param.clamp_(-self.eps, self.eps)
            elif self.norm == 'l2':
                # The factor is 1 inside the ball, and nothing is ever divided by 0.
                norm = torch.linalg.vector_norm(param)
                param.mul_(self.eps / norm.clamp(min=max(self.eps, 1e-12)))

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """What the adversary is doing now, for the log.

        Returns:
            0-d tensors: 'size', the largest L2 norm (or L-infinity norm, with that ball) over the
            parameters, in patches or units of the embedding; 'projected', the fraction of the
            tensors that lie on the border of their ball (absent without a projection).
        """
        order = torch.inf if self.norm == 'linf' else 2
        sizes = torch.stack([torch.linalg.vector_norm(p, order) for p in self.parameters()])
        state = {'size': sizes.max()}
        if self.norm is not None:
            state['projected'] = (sizes >= self.eps * (1 - 1e-6)).float().mean()
        return state
