"""COCO's metric with classes by their names, and objects that may lack a mask."""

from collections import OrderedDict
from collections.abc import Sequence
from tempfile import TemporaryDirectory

from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmengine.fileio import get_local_path

from adpe_mm.datasets.coco_json import BOXES_ONLY, CocoJson
from adpe_mm.datasets.coco_reading import read_coco
from adpe_mm.errors import UserError
from adpe_mm.registry import METRICS


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """mmdet's `CocoMetric` for the labels of `CocoDataset`.

    - A label is the class of this number, whatever order and ids the categories of the file have.
      mmdet's follows their order, and gives results by class to other names if their ids do not
      ascend.
    - The images that were tested count, and no others of the file (see ``indices`` of a data set).
    - AP of masks: an object without a mask is like a crowd in its box: whatever mask of its class
      is found there counts neither as right nor as wrong.
    - Predictions that are kept (``outfile_prefix``) have the category ids of the file.

    Args:
        ann_file: The file of the data set that is tested. None: see mmdet's.
        **kwargs: See mmdet's `CocoMetric`.

    Raises:
        MissingFile: If it is not there.
        UserError: If it cannot be used, has no masks to compare masks with, or is the file of
            another data set.
    """

    def __init__(self, ann_file: str | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self._json: CocoJson | None = None
        self._scratch: TemporaryDirectory | None = None
        if ann_file is None:
            return
        with get_local_path(ann_file, backend_args=self.backend_args) as path:
            self._json = read_coco(path).require()
        self._coco_api = COCO()  # until it is known which images are tested
        objects = self._json.annotations
        if 'segm' in self.metrics and objects and all('segmentation' not in a for a in objects):
            raise UserError(
                f'no object of {ann_file} has a mask ("segmentation") to compare masks with: set '
                f"metric='bbox' in val_evaluator and test_evaluator, or take {BOXES_ONLY}"
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        if self._json is None:
            return super().compute_metrics(results)
        self.img_ids = list(dict.fromkeys(result['img_id'] for _, result in results))
        unknown = set(self.img_ids) - {image['id'] for image in self._json.images}
        if unknown:
            raise UserError(
                f'{self._json.path} lacks {len(unknown)} of the images that were tested, as that '
                f'of the id {min(unknown)!r}: give ann_file of the data set as ann_file of the '
                'evaluator'
            )
        ids = self._json.ids_of(self.dataset_meta['classes'])
        self.cat_ids = list(range(1, len(ids) + 1))  # pycocotools sorts them
        found, metrics = OrderedDict(), self.metrics
        for metric in metrics:
            self.metrics = [metric]
            self._coco_api = self._truth(ids, masks=metric == 'segm')
            found.update(super().compute_metrics(results))
        self.metrics = metrics
        return found

    def results2json(self, results: Sequence[dict], outfile_prefix: str) -> dict[str, str]:
        """Write the predictions to compare; and where they are kept, with the ids of the file."""
        if self._json is None or outfile_prefix != self.outfile_prefix:
            return super().results2json(results, outfile_prefix)
        numbers = self.cat_ids
        known = self._json.ids_of(self.dataset_meta['classes'])
        used = [c['id'] for c in self._json.categories if isinstance(c['id'], int)]
        free = max(used, default=0) + 1
        self.cat_ids = [
            free + number if known[number] is None else known[number]
            for number in range(len(known))
        ]
        files = super().results2json(results, outfile_prefix)
        self.cat_ids = numbers
        if self.format_only:
            return files
        self._scratch = self._scratch or TemporaryDirectory()
        return super().results2json(results, f'{self._scratch.name}/results')

    def _truth(self, ids: list[int | None], masks: bool) -> COCO:
        """The objects of the tested images, with label + 1 as their categories.

        Args:
            ids: The category of each label in the file.
            masks: Whether each needs a mask.
        """
        numbers = {id: number for number, id in zip(self.cat_ids, ids, strict=True)}
        tested = set(self.img_ids)
        names = self.dataset_meta['classes']
        coco = COCO()
        coco.dataset = dict(
            info={},
            images=[image for image in self._json.images if image['id'] in tested],
            annotations=[
                _with_mask(annotation, numbers) if masks else _numbered(annotation, numbers)
                for annotation in self._json.annotations
                if annotation['image_id'] in tested and annotation['category_id'] in numbers
            ],
            categories=[dict(id=n, name=name) for n, name in zip(self.cat_ids, names, strict=True)],
        )
        coco.createIndex()
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
        return coco


def _numbered(annotation: dict, numbers: dict[int, int]) -> dict:
    return dict(annotation, category_id=numbers[annotation['category_id']])


def _with_mask(annotation: dict, numbers: dict[int, int]) -> dict:
    annotation = _numbered(annotation, numbers)
    if 'segmentation' not in annotation:
        x, y, width, height = annotation['bbox']
        right, bottom = x + width, y + height
        annotation['segmentation'] = [[x, y, right, y, right, bottom, x, bottom]]
        annotation['iscrowd'] = 1
    return annotation
