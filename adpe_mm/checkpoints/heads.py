"""A trained network for other classes: what depends on their number is left behind, by name."""

from collections.abc import Iterable

from torch import Tensor, nn

from adpe_mm.errors import UserError

from .fitting import find_misfits


def misfitting_heads(model: nn.Module, state_dict: dict[str, Tensor]) -> list[str]:
    """Layers of heads that are of another shape in the weights, if all else fits; else none.

    They are those whose size is the number of classes.
    """
    problems = find_misfits(model, state_dict)
    names = [line.split()[0] for line in problems.pop('of another shape')]
    if any(problems.values()) or not all('head' in name.split('.')[0] for name in names):
        return []
    return sorted({name.rpartition('.')[0] for name in names})


def leave_behind(
    model: nn.Module, state_dict: dict[str, Tensor], parts: Iterable[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights in which parts of a network are as the network has them now.

    Args:
        model: The network to load into.
        state_dict: The weights, as `find_weights` returns them.
        parts: Names of modules or of parameters, such as 'decode_head.conv_seg'.

    Returns:
        The weights, with the model's own where `parts` name them; and the names that were left.

    Raises:
        ValueError: If a part names nothing in either.
    """
    own, left = model.state_dict(), []
    for part in parts:
        names = [n for n in {**own, **state_dict} if n == part or n.startswith(f'{part}.')]
        if not names:
            raise UserError(
                f"default_hooks.checkpoint_fit.leave has '{part}', and neither the network nor the "
                'checkpoint has a module or parameter of that name: name one of them'
            )
        left += names
    kept = {name: value for name, value in state_dict.items() if name not in left}
    return {**kept, **{name: own[name] for name in left if name in own}}, left
