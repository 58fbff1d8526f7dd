#!/usr/bin/env bash
# The larger rehearsal on mini scenes: many pictures without labels, few with; scratch, mmpretrain's
# MAE, MAE+ and every variant of AdPE, on three tasks, with three seeds. Stop it at any time; the
# same command goes on where it was.
#   DATA=data/mini_benchmark WORK_DIR=work_dirs/mini_benchmark SEEDS="0 1 2" make mini-benchmark
# ENTRIES names configs of configs/pretrain/ (without .py), paths of others, and scratch; TASKS some
# of cls, seg and det. JOBS trainings run at a time, one process each: one for every GPU, two on a CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

data=${DATA:-data/mini_benchmark}
work_dir=${WORK_DIR:-work_dirs/mini_benchmark}
epochs=${EPOCHS:-8}          # of pretraining
cls_epochs=${CLS_EPOCHS:-20} # of classification
seg_iters=${SEG_ITERS:-600}
det_iters=${DET_ITERS:-250}
if ((epochs < 2 || cls_epochs < 2)); then
    echo 'mini: EPOCHS and CLS_EPOCHS must be 2 or more, as the first one warms up' >&2
    exit 1
fi
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
jobs=${JOBS:-$((gpus ? gpus : 2))}
read -r -a seeds <<< "${SEEDS:-0 1 2}"
read -r -a names <<< "${ENTRIES:-scratch adpe_vit-ti_mini maeplus_vit-ti_mini mae_vit-ti_mini \
    maeplus_vit-ti_ape_mini adpe_vit-ti_ape-embed_mini adpe_vit-ti_rpe-embed_mini \
    adpe_vit-ti_ape-coord_mini}"
read -r -a pictures <<< "${PICTURES:---size 64 --train 800 --val 400 --unlabelled 8000 --others 0 \
    --variation 30}"
# All processors, shared by the jobs.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((($(nproc) + jobs - 1) / jobs))}

entries=()
for name in "${names[@]}"; do
    case $name in
        scratch | */*) entries+=("$name") ;;
        *) entries+=("configs/pretrain/$name.py") ;;
    esac
done

task() { # TASK CONFIG: the config, or none if the task is not asked for
    case " ${TASKS:-cls seg det} " in *" $1 "*) echo "$2" ;; *) echo none ;; esac
}

transfer() { # ENTRIES...
    exec python tools/benchmarks/transfer.py "$@" --gpus 1 --out "$work_dir" \
        --seeds "${seeds[@]}" --pretrain-options \
        train_dataloader.dataset.data_root="$data" \
        train_dataloader.dataset.data_prefix.img_path=unlabelled \
        train_dataloader.batch_size=32 \
        train_cfg.max_epochs="$epochs" param_scheduler.1.T_max=$((epochs - 1)) \
        param_scheduler.1.end="$epochs" default_hooks.checkpoint.interval=2 \
        --cls "$(task cls configs/cls/adpe-vit-ti_mini.py)" --cls-options \
        {train,val,test}_dataloader.dataset.data_root="$data/imagenet" \
        train_dataloader.batch_size=32 \
        train_cfg.max_epochs="$cls_epochs" train_cfg.val_interval=$((cls_epochs + 1)) \
        param_scheduler.1.T_max=$((cls_epochs - 1)) param_scheduler.1.end="$cls_epochs" \
        --seg "$(task seg configs/seg/upernet_adpe-vit-ti_mini.py)" --seg-options \
        {train,val,test}_dataloader.dataset.data_root="$data/ade" \
        train_dataloader.batch_size=16 auto_scale_lr.base_batch_size=16 \
        train_cfg.max_iters="$seg_iters" train_cfg.val_interval=$((seg_iters + 1)) \
        param_scheduler.1.end="$seg_iters" default_hooks.checkpoint.interval="$seg_iters" \
        --det "$(task det configs/det/mask-rcnn_adpe-vit-ti_mini.py)" --det-options \
        {train,val,test}_dataloader.dataset.data_root="$data/coco" \
        {val,test}_evaluator.ann_file="$data/coco/annotations/instances_val2017.json" \
        train_dataloader.batch_size=16 \
        train_cfg.max_iters="$det_iters" train_cfg.val_interval=$((det_iters + 1)) \
        param_scheduler.1.end="$det_iters" \
        param_scheduler.1.milestones="[$((det_iters * 8 / 9)),$((det_iters * 26 / 27))]" \
        default_hooks.checkpoint.interval="$det_iters"
}

python tools/dataset_converters/make_mini.py "$data" "${pictures[@]}"

mkdir -p "$work_dir"
running=()
trap 'kill "${running[@]}" 2> /dev/null || true' EXIT
for ((job = 0; job < jobs; job++)); do
    share=()
    for ((i = job; i < ${#entries[@]}; i += jobs)); do share+=("${entries[i]}"); done
    if [ ${#share[@]} -eq 0 ]; then continue; fi
    if [ "$gpus" -gt 0 ]; then export CUDA_VISIBLE_DEVICES=$((job % gpus)); fi
    (transfer "${share[@]}") > >(sed -u "s/^/job $job: /") 2>&1 &
    running+=($!)
done
failed=0
for pid in "${running[@]}"; do wait "$pid" || failed=1; done
running=()
if [ $failed -ne 0 ]; then
    echo "mini: a job failed, see above" >&2
    exit 1
fi
(transfer "${entries[@]}") # finds all complete: one table of everything
