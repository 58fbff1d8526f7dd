"""Encoders for torch.hub, of a clone of this repository.

    torch.hub.load(CLONE, 'adpe_vit_b', source='local', pretrained=False)
    torch.hub.load(CLONE, 'adpe_vit_b', source='local', pretrained='epoch_1600.pth')
    torch.hub.load(CLONE, 'get_model', 'epoch_1600.pth', source='local')

There is an entry for each of `adpe_mm.list_models()`, with underscores for hyphens; arguments are
those of `adpe_mm.get_model`.
"""

import functools as _functools

from adpe_mm import get_model
from adpe_mm import list_models as _list_models

dependencies = ['torch', 'mmcv', 'mmengine', 'mmpretrain']


def _entry(name: str):
    entry = _functools.partial(get_model, name)
    return _functools.update_wrapper(entry, get_model)  # for torch.hub.help


globals().update({name.replace('-', '_'): _entry(name) for name in _list_models()})
