"""AdPE on mini scenes, with probes of the frozen features while it trains (docs/probing.md).

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/pretrain/adpe_vit-mini_probed_mini.py 2

The line below does the same in any config of pretraining. The network is that of
`adpe_vit-mini_mini.py`, bit for bit. Curves over all 24 epochs: not run; what the probes cost, and
which of them tell something, is in docs/probing.md.
"""

_base_ = './adpe_vit-mini_mini.py'
default_hooks = dict(
    probe=dict(
        type='adpe_mm.ProbeHook',
        data='{{$MINI_DATA:data/mini}}/imagenet',  # with train/CLASS/ and val/CLASS/
        # interval=1,  # epochs; without it, as often as the cost stays below max_cost=0.05
    ),
)
