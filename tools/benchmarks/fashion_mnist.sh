#!/usr/bin/env bash
# Few labels of real pictures: pretrain on the 60,000 of Fashion-MNIST without labels, fine-tune on
# 20 of each class, test on 10,000. Stop it at any time; the same command goes on where it was.
#   apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist*.deb fashion
#   SOURCE=fashion/usr/share/datasets/fashion-mnist tools/benchmarks/fashion_mnist.sh
# SOURCE is the folder of the four files, wherever they come from. ENTRIES, SEEDS as of mini.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

data=${DATA:-data/fashion_mnist}
work_dir=${WORK_DIR:-work_dirs/fashion_mnist}
epochs=${EPOCHS:-2}           # of pretraining
cls_epochs=${CLS_EPOCHS:-60}
if ((epochs < 2 || cls_epochs < 2)); then
    echo 'fashion_mnist: EPOCHS and CLS_EPOCHS must be 2 or more, as the first one warms up' >&2
    exit 1
fi
read -r -a seeds <<< "${SEEDS:-0 1 2}"
read -r -a names <<< "${ENTRIES:-scratch adpe_vit-ti_mini maeplus_vit-ti_mini}"

entries=()
for name in "${names[@]}"; do
    if [ "$name" = scratch ]; then entries+=(scratch); else entries+=("configs/pretrain/$name.py"); fi
done

if [ ! -e "$data" ]; then
    python tools/dataset_converters/fashion_mnist.py "${SOURCE:?folder of the four files}" "$data" \
        --labelled 20
fi
# Patches of 4 px: 7 x 7 of a picture.
exec python tools/benchmarks/transfer.py "${entries[@]}" --gpus "${GPUS:-1}" --out "$work_dir" \
    --seeds "${seeds[@]}" --seg none --det none \
    --pretrain-options \
    model.backbone.img_size=28 model.backbone.patch_size=4 \
    train_dataloader.dataset.data_root="$data" \
    train_dataloader.dataset.data_prefix.img_path=unlabelled \
    train_dataloader.dataset.pipeline.0.size=28 \
    train_dataloader.dataset.pipeline.0.num_crops=2 train_dataloader.batch_size=32 \
    train_cfg.max_epochs="$epochs" param_scheduler.1.T_max=$((epochs - 1)) \
    param_scheduler.1.end="$epochs" \
    --cls configs/cls/adpe-vit-ti_mini.py --cls-options \
    model.backbone.img_size=28 model.backbone.patch_size=4 \
    model.head.num_classes=10 model.data_preprocessor.num_classes=10 \
    {train,val,test}_dataloader.dataset.data_root="$data" \
    train_dataloader.dataset.pipeline.1.scale=28 \
    {val,test}_dataloader.dataset.pipeline.1.scale=28 \
    {val,test}_dataloader.batch_size=200 train_dataloader.batch_size=32 \
    train_cfg.max_epochs="$cls_epochs" train_cfg.val_interval=$((cls_epochs + 1)) \
    param_scheduler.1.T_max=$((cls_epochs - 1)) param_scheduler.1.end="$cls_epochs"
