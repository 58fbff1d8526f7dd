"""Checkpoints: reading, fitting to a network, describing, converting and writing."""

from .converting import Report, convert, foreign_name, load_backbone, our_name, to_timm
from .describing import (
    describe_origin,
    describe_pretraining,
    infer_adversary,
    infer_backbone,
    infer_config,
    infer_lookup,
    is_pretraining,
)
from .fitting import check_fits, unwrap
from .reading import file_hash, find_weights, load_weights, read_checkpoint
from .writing import AtomicLocalBackend, check_resumable

__all__ = [
    'AtomicLocalBackend',
    'Report',
    'check_fits',
    'check_resumable',
    'convert',
    'describe_origin',
    'describe_pretraining',
    'file_hash',
    'find_weights',
    'foreign_name',
    'infer_adversary',
    'infer_backbone',
    'infer_config',
    'infer_lookup',
    'is_pretraining',
    'load_backbone',
    'load_weights',
    'our_name',
    'read_checkpoint',
    'to_timm',
    'unwrap',
]
