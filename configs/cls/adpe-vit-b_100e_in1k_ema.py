"""As `adpe-vit-b_100e_in1k.py`, and what is tested is a moving average of the weights.

    tools/dist_train.sh configs/cls/adpe-vit-b_100e_in1k_ema.py 8

The paper has no average; here: not run.
"""

_base_ = './adpe-vit-b_100e_in1k.py'
default_hooks = dict(ema=dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL'))
