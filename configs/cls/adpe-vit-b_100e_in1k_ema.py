"""As `adpe-vit-b_100e_in1k.py`, and what is tested is a moving average of the weights.

    tools/dist_train.sh configs/cls/adpe-vit-b_100e_in1k_ema.py 8

The average forgets in 1 / momentum optimiser steps: 10,000, which are 32 epochs at batch 4096.
The paper has no average; here: not run.
"""

_base_ = './adpe-vit-b_100e_in1k.py'
default_hooks = dict(ema=dict(type='adpe_mm.EMAHook', momentum=1e-4))
