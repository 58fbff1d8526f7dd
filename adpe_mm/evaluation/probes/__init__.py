"""What frozen features are worth: k-NN, linear, attentive and segmentation probes; what they are
like: effective rank, reach of the attention, norms.
"""

from .encoders import read_encoder
from .hook import ProbeHook
from .prober import PROBES, Prober
from .segmentation import segmentation_probe
from .texts import format_probes

__all__ = [
    'PROBES',
    'ProbeHook',
    'Prober',
    'format_probes',
    'read_encoder',
    'segmentation_probe',
]
