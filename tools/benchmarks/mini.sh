#!/usr/bin/env bash
# The larger rehearsal on mini scenes: many pictures without labels, few with; scratch, mmpretrain's
# MAE, MAE+ and every variant of AdPE, on three tasks, with three seeds. Stop it at any time; the
# same command goes on where it was.
#   DATA=data/mini_benchmark WORK_DIR=work_dirs/mini_benchmark SEEDS="0 1 2" make mini-benchmark
# ENTRIES names configs of configs/pretrain/ (without .py) and scratch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

data=${DATA:-data/mini_benchmark}
work_dir=${WORK_DIR:-work_dirs/mini_benchmark}
epochs=${EPOCHS:-40}         # of pretraining
cls_epochs=${CLS_EPOCHS:-30} # of classification
iters=${ITERS:-1500}         # of segmentation and of detection
read -r -a seeds <<< "${SEEDS:-0 1 2}"
read -r -a names <<< "${ENTRIES:-scratch mae_vit-ti_mini maeplus_vit-ti_ape_mini maeplus_vit-ti_mini \
    adpe_vit-ti_ape-embed_mini adpe_vit-ti_ape-coord_mini adpe_vit-ti_rpe-embed_mini adpe_vit-ti_mini}"
read -r -a pictures <<< "${PICTURES:---size 96 --train 1600 --val 400 --unlabelled 8000 --others 1}"

entries=()
for name in "${names[@]}"; do
    if [ "$name" = scratch ]; then entries+=(scratch); else entries+=("configs/pretrain/$name.py"); fi
done

python tools/dataset_converters/make_mini.py "$data" "${pictures[@]}"
python tools/benchmarks/transfer.py "${entries[@]}" --out "$work_dir" --seeds "${seeds[@]}" \
    --pretrain-options \
    train_dataloader.dataset.data_root="$data" \
    train_dataloader.dataset.data_prefix.img_path=unlabelled \
    train_dataloader.batch_size=16 auto_scale_lr.base_batch_size=32 \
    optim_wrapper.optimizer.lr=1.5e-3 \
    train_cfg.max_epochs="$epochs" param_scheduler.1.T_max=$((epochs - 1)) \
    param_scheduler.1.end="$epochs" default_hooks.checkpoint.interval=5 \
    --cls configs/cls/adpe-vit-ti_mini.py --cls-options \
    {train,val,test}_dataloader.dataset.data_root="$data/imagenet" \
    train_cfg.max_epochs="$cls_epochs" train_cfg.val_interval="$cls_epochs" \
    param_scheduler.1.T_max=$((cls_epochs - 1)) param_scheduler.1.end="$cls_epochs" \
    --seg configs/seg/upernet_adpe-vit-ti_mini.py --seg-options \
    {train,val,test}_dataloader.dataset.data_root="$data/ade" \
    train_cfg.max_iters="$iters" train_cfg.val_interval="$iters" \
    param_scheduler.1.end="$iters" default_hooks.checkpoint.interval="$iters" \
    --det configs/det/mask-rcnn_adpe-vit-ti_mini.py --det-options \
    {train,val,test}_dataloader.dataset.data_root="$data/coco" \
    {val,test}_evaluator.ann_file="$data/coco/annotations/instances_val2017.json" \
    train_cfg.max_iters="$iters" train_cfg.val_interval="$iters" \
    param_scheduler.1.end="$iters" \
    param_scheduler.1.milestones="[$((iters * 8 / 9)),$((iters * 26 / 27))]" \
    default_hooks.checkpoint.interval="$iters"
