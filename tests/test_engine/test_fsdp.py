"""The FSDP config's wrapper and the ascent group, on a CPU over gloo."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.registry import MODEL_WRAPPERS
from torch.distributed.fsdp import FullyShardedDataParallel

from adpe_mm.engine import AdversaryProjectionHook, LayerDecayOptimWrapperConstructor
from adpe_mm.evaluation.probes.encoders import copy_encoder
from tests.helpers import tiny_config, tiny_model

CONFIG = Path(__file__).parents[2] / 'configs' / 'pretrain' / 'adpe_vit-h_1600e_fsdp.py'
STEPS, EPS = 3, 1e-3


def train(model, whole, rank: int = 0, processes: int = 1, hook=None, runner=None):
    """A few steps on this process's share of a fixed batch."""
    wrapper = LayerDecayOptimWrapperConstructor(
        # SGD: AdamW blows gradients that are rounding noise (of the keys' bias) up to a full step.
        dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.05)),
        dict(ascent=dict(lr=1e3)),
    )(whole)
    if hook is not None:
        runner.optim_wrapper = wrapper
        hook.before_train(runner)
    generator = torch.Generator().manual_seed(3)
    adversary = list(model.adversary.parameters())
    for _ in range(STEPS):
        images = torch.randn(4, 3, 16, 24, generator=generator)
        noise = torch.rand(4, 24, generator=generator)
        share = slice(rank * 4 // processes, (rank + 1) * 4 // processes)
        # DDP and FSDP average gradients over the processes.
        model.forward_noise = noise[share]
        loss = whole(images[share], None, mode='loss')['loss']
        gradients = torch.autograd.grad(loss, adversary, retain_graph=True) if hook is None else ()
        wrapper.update_params(loss)
        if hook is None:
            model.adversary.project()
    decays = [g['weight_decay'] for g in wrapper.optimizer.param_groups]
    return decays, gradients


def build():
    """A network whose relative positions count, and whose `loss` takes the test's noise."""
    torch.manual_seed(0)
    model = tiny_model('rpe', 'coordinate', norm='linf', eps=EPS)
    for layer in [*model.backbone.layers, *model.neck.layers]:
        torch.nn.init.normal_(layer.attn.rpe.table)
    loss = type(model).loss
    model.forward_noise = None
    model.loss = lambda inputs, data_samples: loss(model, inputs, noise=model.forward_noise)
    return model


def fsdp_process(rank: int, store: str, results: dict) -> None:
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    torch.set_num_threads(1)
    model = build()
    wrapper = Config.fromfile(CONFIG).strategy.model_wrapper
    whole = MODEL_WRAPPERS.build(
        wrapper, default_args=dict(module=model, device_id=torch.device('cpu'))
    )
    hook, logged = AdversaryProjectionHook(interval=1), {}
    runner = type('Runner', (), dict(model=whole, iter=0))
    runner.message_hub = type(
        'Hub', (), dict(update_scalar=lambda self, name, value: logged.update({name: float(value)}))
    )()
    units = sum(isinstance(module, FullyShardedDataParallel) for module in whole.modules())
    decays, _ = train(model, whole, rank, 2, hook, runner)
    hook.after_train_iter(runner, 0)
    with torch.no_grad(), FullyShardedDataParallel.summon_full_params(whole, writeback=False):
        weights = {
            name.replace('_fsdp_wrapped_module.', ''): param.clone().numpy()
            for name, param in whole.module.named_parameters()
        }
    results[rank] = units, decays, weights, logged
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_sharded_processes_equal_one_plain(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(fsdp_process, (str(tmp_path / 'store'), results), nprocs=2)
        units, decays, weights, logged = results[0]
        assert results[1][3] == logged  # reduced over the processes
    model = build()
    assert units == 1 + len(model.backbone.layers) + len(model.neck.layers)
    plain_decays, gradients = train(model, model)
    assert decays == plain_decays
    assert model.adversary.encoder[0].abs().max() == EPS  # the projection was at work
    assert logged['train/adversary/size'] == pytest.approx(EPS)
    assert logged['train/adversary/log10_gradient'] == pytest.approx(
        torch.nn.utils.get_total_norm(gradients).log10().item(), abs=1e-3
    )
    for name, param in model.named_parameters():
        torch.testing.assert_close(
            torch.from_numpy(weights[name]), param.data, atol=1e-5, rtol=1e-3
        )


def copying_process(rank: int, store: str, results: dict) -> None:
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    torch.set_num_threads(1)
    model = build()
    wrapper = Config.fromfile(CONFIG).strategy.model_wrapper
    whole = MODEL_WRAPPERS.build(
        wrapper, default_args=dict(module=model, device_id=torch.device('cpu'))
    )
    before = [param.detach().clone() for param in whole.parameters()]
    encoder = copy_encoder(whole, tiny_config('rpe', 'coordinate'))
    images = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(3))
    features = encoder(images)[0]
    same = all(map(torch.equal, before, whole.parameters()))
    # It trains on as before: the shards are those of the optimiser.
    whole(images, None, mode='loss')['loss'].backward()
    results[rank] = features.numpy(), same
    dist.destroy_process_group()


@pytest.mark.slow
def test_a_sharded_network_is_copied_whole_to_be_probed(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(copying_process, (str(tmp_path / 'store'), results), nprocs=2)
        found = dict(results)
    backbone = build().backbone.eval()
    images = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        (tokens,) = backbone(images)  # (2, 1 + 24, E)
    for rank in (0, 1):
        features, same = found[rank]
        expected = tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 6))
        torch.testing.assert_close(torch.from_numpy(features), expected, atol=1e-5, rtol=1e-4)
        assert same
