"""As `upernet_adpe-vit-l_160k_ade20k-640x640.py`, tested at six scales and mirrored.

    tools/dist_test.sh configs/seg/upernet_adpe-vit-l_160k_ade20k-640x640-ms.py CHECKPOINT 8

Short edges of 640, 640, 640, 800, 960 and 1120 px; the same as ``--tta`` with the other config.

No published result; here: not run.
"""

_base_ = './upernet_adpe-vit-l_160k_ade20k-640x640.py'
tta = True  # read by tools/test.py
