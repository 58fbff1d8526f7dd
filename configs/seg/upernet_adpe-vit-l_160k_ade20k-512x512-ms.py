"""As `upernet_adpe-vit-l_160k_ade20k-512x512.py`, tested at six scales and mirrored.

    tools/dist_test.sh configs/seg/upernet_adpe-vit-l_160k_ade20k-512x512-ms.py CHECKPOINT 8

Short edges of 512, 512, 512, 640, 768 and 896 px; the same as ``--tta`` with the other config.

No published result; here: not run.
"""

_base_ = './upernet_adpe-vit-l_160k_ade20k-512x512.py'
tta = True  # read by tools/test.py
