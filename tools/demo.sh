#!/usr/bin/env bash
# The main job on embedded data, in minutes on two CPU cores: draw mini scenes, pretrain AdPE on
# them with two processes, stop in the middle, resume, and show what was learnt.
#   DATA=data/mini WORK_DIR=work_dirs/demo make demo
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data=${DATA:-data/mini}
work_dir=${WORK_DIR:-work_dirs/demo}
config=configs/pretrain/adpe_vit-ti_mini.py
log=$work_dir/output.log
stop_after=$work_dir/epoch_3.pth
start=$SECONDS

# One process a GPU; without GPUs, two on the CPU.
processes=$(python -c 'import torch; print(min(torch.cuda.device_count(), 2) or 2)')
PORT=${PORT:-$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')}
export PORT

# Replaces the (sub)shell that calls it, so that a signal reaches the launcher.
train() {
    exec tools/dist_train.sh "$config" "$processes" --work-dir "$work_dir" "$@" \
        --cfg-options train_dataloader.dataset.data_root="$data/imagenet"
}
show() { grep --line-buffered -E 'Epoch\(train\)|stopped by|resumed|Error|train: ' || true; }
say() { printf '\n== %s\n' "$*"; }

say "1/4 mini scenes: $data"
python tools/dataset_converters/make_mini.py "$data" --train 1000 --val 200

say "2/4 pretraining with $processes processes, until it is stopped; all output in $log"
rm -rf "$work_dir"
mkdir -p "$work_dir"
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

say '3/4 the same command with --resume'
(train --resume > >(tee -a "$log" | show) 2>&1) || {
    echo "demo: the resumed run failed, see $log" >&2
    exit 1
}

say '4/4 curves and reconstructions'
checkpoint=$(cat "$work_dir/last_checkpoint")
python tools/analysis_tools/plot_curves.py "$work_dir" --out "$work_dir/curves.png"
python tools/visualizations/reconstruct.py "$config" "$checkpoint" "$data/imagenet/val" \
    --out "$work_dir/reconstructions"

say "done in $((SECONDS - start)) s"
echo "checkpoint:       $checkpoint"
echo "curves:           $work_dir/curves.png (TensorBoard: tensorboard --logdir $work_dir)"
echo "reconstructions:  $work_dir/reconstructions/"
echo "log:              $log"
