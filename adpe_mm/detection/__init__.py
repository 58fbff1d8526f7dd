"""Parts of detectors that mmdet lacks.

Nothing of the package imports this one, as mmdet need not be installed: a config that needs it says
``custom_imports = dict(imports=['adpe_mm.detection'])``.
"""

from .cascade_roi_head import CascadeRoIHead

__all__ = ['CascadeRoIHead']
