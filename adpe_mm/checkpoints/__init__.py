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
from .encoders import Encoder, read_encoder
from .fitting import (
    KERNEL,
    check_fits,
    fit_kernel,
    kernel_of_bands,
    resize_patch_kernel,
    unwrap,
)
from .heads import leave_behind, misfitting_heads
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
from .writing import (
    AtomicLocalBackend,
    DiskFull,
    remove_leftovers,
    replacing,
    write_checkpoint,
)

__all__ = [
    'KERNEL',
    'LOOKUPS',
    'AtomicLocalBackend',
    'DiskFull',
    'Encoder',
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
    'fit_kernel',
    'foreign_name',
    'has_backbone',
    'infer_adversary',
    'infer_backbone',
    'infer_config',
    'is_pretraining',
    'add_description',
    'kernel_of_bands',
    'leave_behind',
    'load_backbone',
    'load_weights',
    'misfitting_heads',
    'our_name',
    'pretraining_of',
    'read_checkpoint',
    'read_config',
    'read_encoder',
    'read_settings',
    'remove_leftovers',
    'replacing',
    'resize_patch_kernel',
    'format_description',
    'to_timm',
    'to_transformers',
    'unwrap',
    'write_checkpoint',
]
