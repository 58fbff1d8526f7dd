"""What fully sharded data parallel needs to know of the networks here."""

from torch import nn

from adpe_mm.models.backbones.adpe_vit import Block


def wrap_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """Auto-wrap policy of FSDP: a unit for every transformer block.

    A config names it as ``auto_wrap_policy='adpe_mm.engine.fsdp.wrap_blocks'``.

    Args:
        module: Module in question.
        recurse: Whether FSDP asks to look inside (always) or to wrap it.
        nonwrapped_numel: Parameters that no inner unit holds; unused.
    """
    return recurse or isinstance(module, Block)
