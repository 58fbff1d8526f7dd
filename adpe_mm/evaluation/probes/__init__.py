"""What frozen features are worth: k-NN, linear, attentive and segmentation probes; what they are
like: effective rank, reach of the attention, norms."""

from .encoders import copy_encoder, encoder_of, read_encoder
from .hook import ProbeHook
from .prober import PROBES, Prober

__all__ = ['PROBES', 'ProbeHook', 'Prober', 'copy_encoder', 'encoder_of', 'read_encoder']
