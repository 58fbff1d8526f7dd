"""Child registries of mmengine's root, scope ``adpe_mm``.

Their parent is mmengine's root and not mmpretrain's: a child of mmpretrain's registry cannot be
found from mmseg or mmdet. `locations` lets ``type='adpe_mm.AdPEViT'`` resolve from any scope
without `custom_imports`.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope='adpe_mm', locations=list(locations))


MODELS = _child('model', MMENGINE_MODELS, 'adpe_mm.models')
# The second is apart, as mmpretrain's data sets are slow to import and print on the way.
DATASETS = _child(
    'dataset', MMENGINE_DATASETS, 'adpe_mm.datasets', 'adpe_mm.datasets.imagenet_subset'
)
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'adpe_mm.datasets')
METRICS = _child('metric', MMENGINE_METRICS)  # of adpe_mm.detection, which configs import
DATA_SAMPLERS = _child('data sampler', MMENGINE_DATA_SAMPLERS, 'adpe_mm.datasets')
HOOKS = _child('hook', MMENGINE_HOOKS, 'adpe_mm.engine', 'adpe_mm.evaluation')
LOOPS = _child('loop', MMENGINE_LOOPS, 'adpe_mm.engine')
RUNNERS = _child('runner', MMENGINE_RUNNERS, 'adpe_mm.engine')
OPTIM_WRAPPERS = _child('optim_wrapper', MMENGINE_OPTIM_WRAPPERS, 'adpe_mm.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, 'adpe_mm.engine'
)
OPTIMIZERS = _child('optimizer', MMENGINE_OPTIMIZERS, 'adpe_mm.engine')
PARAM_SCHEDULERS = _child('parameter scheduler', MMENGINE_PARAM_SCHEDULERS, 'adpe_mm.engine')
