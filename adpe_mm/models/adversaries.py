"""The adversaries: a few position parameters that climb the loss, one class per kind.

AdPE (arXiv 2303.07598, section 3): positions of masked patches are trained by gradient ascent on
the reconstruction loss that the network descends, each step followed by a projection onto a ball.

|            | absolute positions (``position='ape'``) | relative positions (``position='rpe'``) |
|------------|-----------------------------------------|-----------------------------------------|
| embedding  | `AbsoluteEmbedding`                     | `RelativeEmbedding`                     |
| coordinate | `AbsoluteCoordinate`                    | `RelativeCoordinate`                    |

MAE+ is the method with `NoAdversary`. A config names ``type='adpe_mm.AdversarialPosition'`` and the
`mode`; the kind of position is the network's.

For an adversary of your own, derive a class from `Adversary`, override what yours does, register it
in `adpe_mm.registry.MODELS` and name it in the config, ``adversary=dict(type='adpe_mm.Mine')``. It
is then trained by ascent, projected, logged and drawn like these: nothing else asks which kind
there is.

Letters in shapes: B crops, N patches, E encoder width, D head width of a block.
"""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from adpe_mm.errors import UserError
from adpe_mm.registry import MODELS

from .layers.irpe import AXIS_BUCKETS, NUM_BUCKETS, Perturbation
from .layers.irpe_kernels import moved_weights

NORMS = (None, 'l2', 'linf')


class Adversary(BaseModule):
    """What an adversary may do; this one leaves everything as it is.

    The optimiser must *maximise* over its parameters: `LayerDecayOptimWrapperConstructor` puts
    those of any `Adversary` into a group of their own with ``maximize=True``, and
    `AdversaryProjectionHook` calls `project` after each step.

    Args:
        encoder: The network that sees the masked patches; a kind reads the sizes it needs off it.
            `MAEPlus` fills this in.
        decoder: The network that predicts them, likewise.
        norm: Ball of the projection, per tensor: None, 'l2' or 'linf'.
        eps: Radius of the ball, 0 or more, in `unit`. Unused without `norm`.
        init_cfg: mmengine's initialisation config.

    Attributes:
        unit: What sizes are measured in, in plots.
        tensors: What its tensors stand for, in plots.

    Raises:
        ValueError: For an unknown norm, or a radius that is missing or below 0.
    """

    unit = 'units of the embedding'
    tensors = 'tensor'

    def __init__(
        self,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        norm: str | None = None,
        eps: float | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if norm not in NORMS:
            raise UserError(f"adversary.norm must be one of {NORMS}, got '{norm}'")
        if norm is not None and (eps is None or not eps >= 0):
            raise UserError(
                f'adversary.eps, the radius of the {norm} ball, must be 0 or more, got {eps}'
            )
        self.norm, self.eps = norm, eps

    def extra_repr(self) -> str:
        return f'norm={self.norm!r}, eps={self.eps}'

    @property
    def mask_token(self) -> Tensor | None:
        """(1, 1, E) token that stands for masked patches; None for the network's own."""
        return None

    def move(self, places: Tensor) -> Tensor | None:
        """Where masked patches are, for their absolute positions.

        Args:
            places: (N, 2) coordinates (x, y) of the patches, in patches.

        Returns:
            (N, 2) the coordinates that they take if they are masked; None for the same.
        """
        return None

    def perturbations(
        self, part: str, masked: Tensor, grid_size: tuple[int, int]
    ) -> list[Perturbation] | None:
        """What happens to the relative positions of masked queries.

        Args:
            part: 'encoder' or 'decoder'.
            masked: (B, N) bool, True where a patch is masked.
            grid_size: Rows and columns of the patches.

        Returns:
            One `Perturbation` per block of that part; None for nothing.
        """
        return None

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
        """What the adversary is doing now, for the log; under sharding all processes ask together.

        Returns:
            0-d tensors: 'size', the largest L2 norm (or L-infinity norm, with that ball) over the
            parameters, in `unit`; 'projected', the fraction of the tensors that lie on the border
            of their ball (absent without a projection).
        """
        order = torch.inf if self.norm == 'linf' else 2
        params = [p.full_tensor() if isinstance(p, DTensor) else p for p in self.parameters()]
        sizes = torch.stack([torch.linalg.vector_norm(param, order) for param in params])
        state = {'size': sizes.max()}
        if self.norm is not None:
            state['projected'] = (sizes >= self.eps * (1 - 1e-6)).float().mean()
        return state

    @torch.no_grad()
    def draw(self, axes: Axes, grid_size: tuple[int, int]) -> None:
        """Draw what it does: here, how its parameters are distributed.

        Args:
            axes: Of matplotlib, empty.
            grid_size: Rows and columns of the patches.
        """
        values = torch.cat([param.flatten() for param in self.parameters()])
        axes.hist(values.cpu().numpy(), bins=40)
        axes.set(title='entries of the perturbation')


class NoAdversary(Adversary):
    """MAE+: nothing is moved, and there is nothing to train."""

    def state(self) -> dict[str, Tensor]:
        return {}


class AbsoluteEmbedding(Adversary):
    """The mask token itself is adversarial, and enters the encoder at patch i as

        ape + sincos(x_i, y_i),    ape in R^E, normal(0, 0.02) at first

    The network's own mask token is gone. Projected as one tensor.

    Args:
        encoder: Of width E (``embed_dims``).
        decoder: Unused.
        **settings: See `Adversary`.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module | None = None, **settings) -> None:
        super().__init__(encoder, decoder, **settings)
        self.ape = nn.Parameter(torch.zeros(1, 1, encoder.embed_dims))

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.normal_(self.ape, std=0.02)

    @property
    def mask_token(self) -> Tensor:
        return self.ape


class AbsoluteCoordinate(Adversary):
    """One shift of all masked patches; the position of masked patch i in the encoder is

        sincos(x_i + ape[0], y_i + ape[1]),    ape = (dx, dy) in patches, 0 at first

    Projected as one tensor; the gradient reaches it through the sines and cosines.
    """

    unit = 'patches'

    def __init__(
        self, encoder: nn.Module | None = None, decoder: nn.Module | None = None, **settings
    ) -> None:
        super().__init__(encoder, decoder, **settings)
        self.ape = nn.Parameter(torch.zeros(2))

    def move(self, places: Tensor) -> Tensor:
        return places + self.ape

    @torch.no_grad()
    def draw(self, axes: Axes, grid_size: tuple[int, int]) -> None:
        """An arrow from each patch to where it is if it is masked."""
        rows, columns = grid_size
        y, x = np.mgrid[:rows, :columns]
        dx, dy = self.ape.tolist()
        axes.scatter(x, y, s=8, color='grey', label='patches')
        axes.quiver(
            x, y, np.full(x.shape, dx), np.full(y.shape, dy),
            angles='xy', scale_units='xy', scale=1, color='tab:red', width=0.006,
        )  # fmt: skip
        axes.set(title='masked patches move to', xlabel='column', ylabel='row')
        axes.invert_yaxis()
        axes.set_aspect('equal')


class RelativeEmbedding(Adversary):
    """One perturbation of iRPE's table per block; the logit of masked query i and key j gains

        (scale * q_i) . delta[:, bucket(i, j)],    delta in R^(D x 50), normal(0, 0.02) at first

    Projected per block.

    Args:
        encoder: With blocks of head width D (``layers[i].attn.head_dim``).
        decoder: Likewise.
        per_bucket: One vector per bucket (True), or the official code's single vector for all of
            them (False), which moves all logits of a query alike so that softmax cancels it: kept
            to load official checkpoints.
        **settings: See `Adversary`.
    """

    tensors = 'block (encoder, then decoder)'

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, per_bucket: bool = True, **settings
    ) -> None:
        super().__init__(encoder, decoder, **settings)
        self.per_bucket = per_bucket
        width = NUM_BUCKETS if per_bucket else 1
        self.encoder, self.decoder = (
            nn.ParameterList(torch.zeros(layer.attn.head_dim, width) for layer in part.layers)
            for part in (encoder, decoder)
        )

    def init_weights(self) -> None:
        super().init_weights()
        for param in self.parameters():
            nn.init.normal_(param, std=0.02)

    def perturbations(
        self, part: str, masked: Tensor, grid_size: tuple[int, int]
    ) -> list[Perturbation]:
        return [Perturbation(masked, delta=delta) for delta in getattr(self, part)]

    @torch.no_grad()
    def draw(self, axes: Axes, grid_size: tuple[int, int]) -> None:
        """The size of the perturbation per bucket."""
        if not self.per_bucket:
            super().draw(axes, grid_size)
            return
        norms = torch.stack([delta.norm(dim=0) for delta in self.encoder]).mean(0)[:-1]
        reach = AXIS_BUCKETS / 2
        image = axes.imshow(
            norms.view(AXIS_BUCKETS, AXIS_BUCKETS).cpu().numpy(),
            extent=(-reach, reach, reach, -reach),
        )
        axes.figure.colorbar(image, ax=axes, shrink=0.8)
        axes.set(
            title='mean L2 norm per bucket, encoder', xlabel='column bucket', ylabel='row bucket'
        )


class RelativeCoordinate(Adversary):
    """One shift of the relative offsets per block; iRPE's term of masked query i and key j is

        (scale * q_i) . table[row_i - row_j + shift[0], col_i - col_j + shift[1]]

    with shift in R^2, in patches, 0 at first; the table is read by interpolation, through which
    the gradient reaches it. Projected per block.

    Args:
        encoder: Whose ``rpe_lookup`` is 'interpolate', with blocks (``layers``).
        decoder: Likewise.
        **settings: See `Adversary`.

    Raises:
        ValueError: If the encoder's look-up does not interpolate.
    """

    unit = 'patches'
    tensors = 'block (encoder, then decoder)'

    def __init__(self, encoder: nn.Module, decoder: nn.Module, **settings) -> None:
        super().__init__(encoder, decoder, **settings)
        if encoder.rpe_lookup == 'bucket':
            raise UserError(
                "adversary.mode='coordinate' on relative positions needs "
                "backbone.rpe_lookup='interpolate': the bucket look-up has no gradient"
            )
        self.encoder, self.decoder = (
            nn.ParameterList(torch.zeros(2) for _ in part.layers) for part in (encoder, decoder)
        )

    def perturbations(
        self, part: str, masked: Tensor, grid_size: tuple[int, int]
    ) -> list[Perturbation]:
        shifts = list(getattr(self, part))
        moved = moved_weights(torch.stack(shifts), grid_size)  # of all blocks in one go
        return [
            Perturbation(masked, shift=shift, moved=weights)
            for shift, weights in zip(shifts, moved, strict=True)
        ]

    @torch.no_grad()
    def draw(self, axes: Axes, grid_size: tuple[int, int]) -> None:
        """One arrow per block, from 0, and the ball that it is projected onto."""
        reach = 0.1
        for part, color in (('encoder', 'tab:blue'), ('decoder', 'tab:orange')):
            for i, shift in enumerate(getattr(self, part)):
                dy, dx = shift.tolist()  # numpy would keep its memory from being sharded
                reach = max(reach, abs(dx) * 1.2, abs(dy) * 1.2)
                axes.annotate(
                    '', (dx, dy), (0, 0), arrowprops=dict(arrowstyle='->', color=color, lw=1.2)
                )
                axes.text(dx, dy, i, color=color, fontsize=8)
        if self.norm and self.eps <= 4 * reach:
            eps = self.eps
            axes.add_patch(
                Circle((0, 0), eps, fill=False, ls=':')
                if self.norm == 'l2'
                else Rectangle((-eps, -eps), 2 * eps, 2 * eps, fill=False, ls=':')
            )
            reach = max(reach, eps * 1.1)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axes.set(title='shifts: encoder blue, decoder orange', xlabel='columns', ylabel='rows')
        axes.invert_yaxis()
        axes.set_aspect('equal')


KINDS = {
    ('ape', 'embedding'): AbsoluteEmbedding,
    ('ape', 'coordinate'): AbsoluteCoordinate,
    ('rpe', 'embedding'): RelativeEmbedding,
    ('rpe', 'coordinate'): RelativeCoordinate,
}


@MODELS.register_module(name='AdversarialPosition')
def build_adversary(mode: str, encoder: nn.Module, decoder: nn.Module, **settings) -> Adversary:
    """The adversary of a mode for the encoder's kind of position.

    Args:
        mode: 'embedding' or 'coordinate'.
        encoder: An `AdPEPretrainViT`.
        decoder: An `AdPEDecoder`.
        **settings: ``norm`` and ``eps``, see `Adversary`; ``per_bucket``, see `RelativeEmbedding`.

    Raises:
        ValueError: For an unknown mode, norm or radius.
    """
    modes = tuple(dict.fromkeys(mode for _, mode in KINDS))
    if mode not in modes:
        raise UserError(f"adversary.mode must be one of {modes}, got '{mode}'")
    return KINDS[encoder.position, mode](encoder, decoder, **settings)
