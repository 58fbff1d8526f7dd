"""What DDP does to gradients, as the runner wraps networks."""

from types import SimpleNamespace

import torch
from mmengine.config import Config
from torch import nn
from torch.profiler import ProfilerActivity, profile

from adpe_mm.engine import AdPERunner
from tests.test_engine.processes import in_processes

LAYERS = 5


class Network(nn.Sequential):
    def __init__(self):
        super().__init__(*(nn.Linear(16, 16) for _ in range(LAYERS)))


def take_steps(folder):
    runner = object.__new__(AdPERunner)
    runner.cfg, runner._distributed = Config(), True
    runner.logger = SimpleNamespace(info=print)
    wrapped = runner.wrap_model(None, Network())
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    for _ in range(3):  # DDP orders its buckets anew after the first
        optimizer.zero_grad()  # as mmengine: gradients are gone, not 0
        with profile(activities=[ProfilerActivity.CPU]) as prof:
            out = nn.parallel.DistributedDataParallel.forward(wrapped, torch.randn(4, 16))
            out.sum().backward()
        optimizer.step()
    grads = [param.grad for param in wrapped.parameters()]
    storages = {grad.untyped_storage().data_ptr() for grad in grads}
    counts = {event.key: event.count for event in prof.key_averages()}
    torch.save((len(grads), len(storages), counts), folder / 'found.pth')


def test_gradients_are_in_the_bucket_by_one_pass(tmp_path):
    in_processes(2, tmp_path, take_steps, tmp_path)
    grads, storages, counts = torch.load(tmp_path / 'found.pth')
    assert grads == 2 * LAYERS and storages == 1
    assert counts['aten::mul'] == grads  # into the bucket, divided
    assert not any('copy_bucket_to_grad' in name for name in counts)
