"""Parts of detectors that mmdet lacks, and data of COCO's form as people's tools write it.

Nothing of the package imports this one, as mmdet need not be installed: a config that needs it says
``custom_imports = dict(imports=['adpe_mm.detection'])``.
"""

from .cascade_roi_head import CascadeRoIHead
from .coco_dataset import CocoDataset
from .coco_metric import CocoMetric
from .load_instances import LoadInstances
from .mask_head import FCNMaskHead

__all__ = ['CascadeRoIHead', 'CocoDataset', 'CocoMetric', 'FCNMaskHead', 'LoadInstances']
