#!/usr/bin/env bash
# The main job on embedded data, in minutes on two CPU cores: draw mini scenes, pretrain AdPE on
# them with two processes, stop in the middle, resume, carry the network to classification,
# segmentation and detection beside one from scratch, test, and report.
#   DATA=data/mini WORK_DIR=work_dirs/demo make demo
#   SMOKE=1 make demo      the same way through in three minutes, too short to learn anything
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

smoke=${SMOKE:-}
data=${DATA:-data/mini${smoke:+_smoke}}
work_dir=${WORK_DIR:-work_dirs/demo${smoke:+_smoke}}
pretrain_dir=$work_dir/pretrain
log=$pretrain_dir/output.log
start=$SECONDS

if [ -z "$smoke" ]; then
    scenes=(--size 64 --train 2000 --val 200 --others 0 --variation 30)
    config=configs/pretrain/adpe_vit-mini_mini.py
    tasks=(--cls configs/cls/adpe-vit-mini_mini.py --seg configs/seg/upernet_adpe-vit-mini_mini.py
        --det configs/det/mask-rcnn_adpe-vit-mini_mini.py)
    stop_after=$pretrain_dir/epoch_6.pth
    compared_with=(scratch)
else
    recipes=configs/benchmarks/smoke
    scenes=(--size 64 --train 320 --val 16 --others 0 --variation 30)
    config=$recipes/pretrain.py
    tasks=(--cls "$recipes/cls.py" --seg "$recipes/seg.py" --det "$recipes/det.py")
    stop_after=$pretrain_dir/epoch_1.pth
    compared_with=()
fi
export MINI_DATA=$data # the configs look there

python -m adpe_mm.devices 1 # says so if there are GPUs that torch cannot use
# One process per GPU; without GPUs, two on the CPU.
processes=$(python -c 'import torch; print(min(torch.cuda.device_count(), 2) or 2)')

# Replaces the (sub)shell that calls it, so that a signal reaches the launcher.
train() {
    exec tools/dist_train.sh "$config" "$processes" --work-dir "$pretrain_dir" "$@"
}
show() { grep --line-buffered -E 'Epoch\(train\)|stopped by|resumed|Error|train: ' || true; }
say() { printf '\n== %s\n' "$*"; }

say "1/5 mini scenes: $data"
python tools/dataset_converters/make_mini.py "$data" "${scenes[@]}"

say "2/5 pretraining with $processes processes, until it is stopped; all output in $log"
rm -rf "$work_dir"
mkdir -p "$pretrain_dir"
train > >(tee "$log" | show) 2>&1 &
job=$!
while [ ! -e "$stop_after" ] && kill -0 "$job" 2> /dev/null; do sleep 1; done
if [ ! -e "$stop_after" ]; then
    wait "$job" || true
    echo "demo: pretraining ended early, see $log" >&2
    exit 1
fi
kill -TERM "$job" # as a batch system does
wait "$job" || true

say '3/5 the same command with --resume'
(train --resume > >(tee -a "$log" | show) 2>&1) || {
    echo "demo: the resumed run failed, see $log" >&2
    exit 1
}
checkpoint=$(cat "$pretrain_dir/last_checkpoint")

say '4/5 curves and reconstructions'
python tools/analysis_tools/plot_curves.py "$pretrain_dir" --out "$work_dir/curves.png"
python tools/visualizations/reconstruct.py "$config" "$checkpoint" "$data/imagenet/val" \
    --out "$work_dir/reconstructions"

say '5/5 classification, segmentation and detection, from these weights and from scratch'
python tools/benchmarks/transfer.py adpe="$checkpoint" "${compared_with[@]}" --out "$work_dir" \
    --gpus "$processes" "${tasks[@]}"

say "done in $((SECONDS - start)) s"
echo "report:           $work_dir/report.html (open it in a browser)"
echo "checkpoint:       $checkpoint"
echo "curves:           $work_dir/curves.png (TensorBoard: tensorboard --logdir $work_dir)"
echo "reconstructions:  $work_dir/reconstructions/"
echo "log:              $log"
