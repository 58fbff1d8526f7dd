"""As `upernet_adpe-vit-b_160k_ade20k-512x512.py`, tested at six scales and mirrored.

    tools/dist_test.sh configs/seg/upernet_adpe-vit-b_160k_ade20k-512x512-ms.py CHECKPOINT 8

Short edges of 512, 512, 512, 640, 768 and 896 px; the same as ``--tta`` with the other config.

mIoU (paper): 50.7, quoted as a gain of 2.6 over MAE's 48.1; the official README tests with
mmsegmentation's ``_ms`` config, so with these scales. Here: not run.
"""

_base_ = './upernet_adpe-vit-b_160k_ade20k-512x512.py'
tta = True  # read by tools/test.py
