"""From samples to the network: collation and normalisation."""

import pytest
import torch
from torchvision.transforms import functional as TF

from adpe_mm.datasets import collate_crops
from adpe_mm.models import MultiCropPreprocessor

IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def samples(number=3):
    return [
        dict(
            inputs=torch.randint(256, (2, 3, 8, 12), dtype=torch.uint8),
            mirrored=[i == 1, i == 2],
            unreadable=['bad.jpg'] * (i % 2),
        )
        for i in range(number)
    ]


def test_batch_is_crops_in_the_order_of_images():
    batch = samples()
    collated = collate_crops(batch)
    assert collated['inputs'].shape == (3, 2, 3, 8, 12)
    assert collated['inputs'].dtype == torch.uint8
    assert collated['unreadable'] == ['bad.jpg']
    data = MultiCropPreprocessor()(collated, training=True)
    assert data['data_samples'] is None
    expected = [
        TF.normalize((TF.hflip(crop) if mirrored else crop) / 255, **IMAGENET)
        for sample in batch
        for crop, mirrored in zip(sample['inputs'], sample['mirrored'], strict=True)
    ]
    torch.testing.assert_close(data['inputs'], torch.stack(expected))


def test_own_statistics_travel_with_the_module_but_not_in_checkpoints():
    module = MultiCropPreprocessor(mean=(0, 0, 0), std=(255, 255, 255))
    inputs = collate_crops(samples())['inputs']
    normalised = module(dict(inputs=inputs))['inputs']
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised, inputs.flatten(0, 1) / 255)
    assert not module.state_dict()
    assert module.to('meta').mean.is_meta


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU that torch sees')
def test_gpu_does_the_arithmetic_of_the_cpu():
    collated = collate_crops(samples())
    collated['inputs'] = collated['inputs'].pin_memory()
    on_gpu = MultiCropPreprocessor().cuda()(collated)['inputs']
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), MultiCropPreprocessor()(collated)['inputs'])
