"""Checkpoints: reading, fitting to a network, describing, converting and writing."""

from .converting import (
    Report,
    convert,
    foreign_name,
    load_backbone,
    our_name,
    to_timm,
    to_transformers,
)
from .describing import (
    add_description,
    backbone_config,
    describe,
    describe_origin,
    describe_pretraining,
    format_description,
    has_backbone,
    infer_adversary,
    infer_backbone,
    infer_config,
    is_pretraining,
    pretraining_of,
)
from .fitting import check_fits, resize_patch_kernel, unwrap
from .lookups import LOOKUPS, decode_lookup, encode_lookup
from .reading import (
    file_hash,
    find_weights,
    load_weights,
    read_checkpoint,
    read_config,
    read_settings,
)
from .resumable import find_resumable
from .trusting import check_whole
from .writing import AtomicLocalBackend, write_checkpoint

__all__ = [
    'LOOKUPS',
    'AtomicLocalBackend',
    'Report',
    'backbone_config',
    'check_fits',
    'check_whole',
    'convert',
    'decode_lookup',
    'describe',
    'describe_origin',
    'describe_pretraining',
    'encode_lookup',
    'file_hash',
    'find_resumable',
    'find_weights',
    'foreign_name',
    'has_backbone',
    'infer_adversary',
    'infer_backbone',
    'infer_config',
    'is_pretraining',
    'add_description',
    'load_backbone',
    'load_weights',
    'our_name',
    'pretraining_of',
    'read_checkpoint',
    'read_config',
    'read_settings',
    'resize_patch_kernel',
    'format_description',
    'to_timm',
    'to_transformers',
    'unwrap',
    'write_checkpoint',
]
