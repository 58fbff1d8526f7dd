"""Images without labels."""

from mmengine.config import Config

from .files import allowed_fraction, check_images, distinct_sources, load_samples, make_dataset
from .findings import Findings


def check_pretraining(cfg: Config, findings: Findings, every: bool) -> None:
    """Look for folders that are not there or empty, and for broken images.

    Args:
        cfg: Config of the run.
        findings: Gets what is found.
        every: Look at each image.
    """
    for loader, source in distinct_sources(cfg):
        dataset = make_dataset(source, cfg.default_scope, findings)
        if dataset is None:
            continue
        samples = load_samples(source, dataset, findings)
        if samples is None:
            continue
        paths = [sample['img_path'] for sample in samples if 'img_path' in sample]
        sizes = check_images(source, paths, every, allowed_fraction(cfg, loader), findings)
        findings.facts.append(f'{source.setting}: {len(samples)} images, {sizes}')
