"""What was learned and what it costs: results, tables, curves, reports, images, speed."""

from .reconstruction import ReconstructionHook

__all__ = ['ReconstructionHook']
