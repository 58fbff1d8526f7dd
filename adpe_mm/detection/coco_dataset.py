"""COCO's data set with labels by the names of the classes, and objects that may lack a mask."""

import logging
from collections.abc import Mapping, Sequence

from mmdet.datasets import CocoDataset as MMDetCocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import print_log

from adpe_mm.datasets.coco_json import BOXES_ONLY, class_names
from adpe_mm.datasets.coco_reading import read_coco
from adpe_mm.errors import UserError
from adpe_mm.registry import DATASETS


class Coco(COCO):
    """pycocotools' index of a file that `read_coco` made right.

    Args:
        annotation_file: Path.
    """

    def __init__(self, annotation_file: str) -> None:
        super().__init__()
        self.json = read_coco(annotation_file).require()
        self.dataset = dict(
            info={},
            images=self.json.images,
            annotations=self.json.annotations,
            categories=self.json.categories,
        )
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(self, cat_names: Sequence[str]) -> list[int | None]:
        """The category of each class, in the order of the classes: see `CocoJson.ids_of`."""
        return self.json.ids_of(cat_names)


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """mmdet's `CocoDataset`, in which label i is the class ``metainfo.classes[i]``.

    mmdet's takes the names as a set: its labels follow the order of the file's categories, so that
    training and validation may count differently, and names that the file has not are left out.

    - A name that the file has not is an error if another one may be meant: see `CocoJson.ids_of`.
    - Ids may be texts, repeated or missing, and so may ``iscrowd``, ``area`` and ``bbox``: see
      `read_coco`.
    - Objects may lack a mask, if the pipeline has `LoadInstances` and the network a mask head of
      this package; not all of them may, if it loads masks.

    COCO's own files give the same samples with either class.

    Args:
        *args, metainfo, **kwargs: See mmdet's `CocoDataset`.

    Raises:
        MissingFile: If there is no annotation file.
        UserError: If it cannot be used, or nothing is left to train on.
    """

    def __init__(self, *args, metainfo: Mapping | None = None, **kwargs) -> None:
        if metainfo and 'classes' in metainfo:
            metainfo = dict(metainfo, classes=class_names(metainfo['classes']))
        super().__init__(*args, metainfo=metainfo, **kwargs)

    def COCOAPI(self, path: str) -> Coco:
        """Read a file, and say what was made right."""
        coco = Coco(path)
        for note in coco.json.notes:
            print_log(note, logger='current', level=logging.WARNING)
        return coco

    def load_data_list(self) -> list[dict]:
        # mmengine's name of it, which is data_root where nothing is given.
        self.data_prefix.setdefault('img', self.data_prefix.get('img_path', self.data_root))
        samples = super().load_data_list()
        masks = any(getattr(step, 'with_mask', False) for step in self.pipeline.transforms)
        if self.test_mode or not masks:
            return samples
        objects = [i for s in samples for i in s['instances'] if not i['ignore_flag']]
        lacking = sum('mask' not in instance for instance in objects)
        if lacking and lacking == len(objects):
            raise UserError(
                f'no object of {self.ann_file} has a mask ("segmentation"), and the pipeline loads '
                f'masks: train {BOXES_ONLY}'
            )
        if lacking:
            print_log(
                f'{lacking} of {len(objects)} objects of {self.ann_file} have no mask: they train '
                'the boxes alone',
                logger='current',
                level=logging.WARNING,
            )
        return samples

    def filter_data(self) -> list[dict]:
        kept = super().filter_data()
        if not kept and not self.test_mode:
            raise UserError(
                f'none of the {len(self.data_list)} images of {self.ann_file} is left to train '
                f'on: filter_cfg={dict(self.filter_cfg or {})} leaves out those without an object '
                'of the classes, and those narrower than min_size in pixels; check the boxes and '
                'sizes in the file, or set train_dataloader.dataset.filter_cfg'
            )
        return kept
