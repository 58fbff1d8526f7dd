"""What lets mmpretrain, mmseg and mmdet work with this package and beside transformers 5.

mmpretrain has multimodal networks, which it imports with all others wherever transformers and
pycocotools are installed. They need transformers 4, and beside transformers 5 their import fails,
and with it that of mmpretrain. No network here is multimodal: `import adpe_mm` has mmpretrain leave
them out there, as it does by itself without transformers.

The inferencers of the three libraries look for mmcv's ``LoadImageFromFile`` in the pipeline, and
put another loader of theirs in its place. With a config whose loader is ours they now keep it: they
read files as training and test did, and still take arrays (BGR).
"""

import copy
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

DEPENDENCY = 'mmpretrain.utils.dependency'  # It decides what mmpretrain imports.
LOADER = 'adpe_mm.LoadImageFromFile'
INFERENCERS = {
    'mmpretrain.apis.image_classification': 'ImageClassificationInferencer',
    'mmseg.apis.mmseg_inferencer': 'MMSegInferencer',
    'mmdet.apis.det_inferencer': 'DetInferencer',
}


class _Loader(SourceFileLoader):
    """Loads a module, and changes it."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _change(module)


class _Finder(MetaPathFinder):
    """Finds some modules before everybody else."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname in self.names else None
        if spec is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def _change(module: ModuleType) -> None:
    if module.__name__ == DEPENDENCY:
        module.WITH_MULTIMODAL = False
    else:
        _keep_our_loader(getattr(module, INFERENCERS[module.__name__]))


def _keep_our_loader(inferencer: type) -> None:
    """Have an inferencer's class read files by the loader of a config, if it is ours."""
    init_pipeline, preprocess = inferencer._init_pipeline, inferencer.preprocess

    def keep(self, cfg):
        from mmengine.registry import TRANSFORMS

        if cfg.test_dataloader.dataset.pipeline[0]['type'] != LOADER:
            return init_pipeline(self, cfg)
        cfg = copy.deepcopy(cfg)
        steps = cfg.test_dataloader.dataset.pipeline
        loader = TRANSFORMS.build(steps[0])
        steps[0] = dict(type='LoadImageFromFile')
        pipeline = init_pipeline(self, cfg)
        if type(pipeline.transforms[0]).__name__ == 'InferencerLoader':
            pipeline.transforms[0] = _AnyLoader(loader, pipeline.transforms[0])
        else:  # mmpretrain's opens images before its pipeline
            self._loader = loader
        return pipeline

    def open_first(self, inputs, *args, **kwargs):
        loader = getattr(self, '_loader', None)
        opened = (_open(loader, given) if loader else given for given in inputs)
        return preprocess(self, opened, *args, **kwargs)

    inferencer._init_pipeline, inferencer.preprocess = keep, open_first


def _open(loader: Callable[[dict], dict], given: object) -> object:
    """(H, W, 3) uint8, BGR, of a path; what is none stays."""
    return loader(dict(img_path=given))['img'] if isinstance(given, str) else given


class _AnyLoader:
    """Opens paths by our loader, and leaves arrays to the library's."""

    def __init__(self, loader: Callable[[dict], dict], of_arrays: Callable) -> None:
        self.loader, self.of_arrays = loader, of_arrays

    def __call__(self, given: object) -> dict:
        if isinstance(given, str):
            given = dict(img_path=given)
        of_path = isinstance(given, dict) and 'img' not in given
        return self.loader(given) if of_path else self.of_arrays(given)


def install() -> None:
    """Change the modules that need it, now or when they are imported. Imports nothing."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    try:
        beside_5 = int(metadata.version('transformers').split('.')[0]) >= 5
    except metadata.PackageNotFoundError:
        beside_5 = False
    sys.meta_path.insert(0, _Finder([*INFERENCERS, *[DEPENDENCY] * beside_5]))
    for name in INFERENCERS:
        if name in sys.modules:
            _change(sys.modules[name])
