"""As `upernet_adpe-vit-b_160k_ade20k-512x512.py`, tested at six scales and mirrored.

    tools/dist_test.sh configs/seg/upernet_adpe-vit-b_160k_ade20k-512x512-ms.py CHECKPOINT 8

The same as ``--tta`` with the other config. The paper does not say how it tests; here: not run.
"""

_base_ = './upernet_adpe-vit-b_160k_ade20k-512x512.py'
tta = True  # read by tools/test.py
