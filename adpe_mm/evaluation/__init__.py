"""What was learned and what it costs: results, tables, curves, reports, images, probes, speed."""

from .probes import ProbeHook
from .reconstruction import ReconstructionHook

__all__ = ['ProbeHook', 'ReconstructionHook']
