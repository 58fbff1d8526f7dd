#!/usr/bin/env bash
# The main job on embedded data, in minutes on two CPU cores: draw mini scenes, pretrain AdPE on
# those without labels with two processes, stop in the middle, resume, and fine-tune on the few with
# labels, beside a network from scratch. A report grows meanwhile.
#   DATA=data/mini WORK_DIR=work_dirs/demo SEED=0 make demo
#   SMOKE=1 make demo      the same way through in two minutes, too short to learn anything
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

smoke=${SMOKE:-}
data=${DATA:-data/mini${smoke:+_smoke}}
work_dir=${WORK_DIR:-work_dirs/demo${smoke:+_smoke}}
seed=${SEED:-0}
pretrain_dir=$work_dir/pretrain
log=$pretrain_dir/output.log
report=$work_dir/report.html
start=$SECONDS

scenes=(--size 64 --others 0 --variation 30)
if [ -z "$smoke" ]; then
    scenes+=(--unlabelled 1600 --train 800 --val 400)
    recipes=configs/benchmarks/demo
    stop_after=$pretrain_dir/epoch_12.pth
    minutes=('10 seconds' '3.5 minutes' '1.5 minutes') whole='5 minutes'
else
    scenes+=(--unlabelled 320 --train 32 --val 16)
    recipes=configs/benchmarks/smoke
    stop_after=$pretrain_dir/epoch_1.pth
    minutes=('5 seconds' '1 minute' '1 minute') whole='2 minutes'
fi
export MINI_DATA=$data # the configs look there

python -m adpe_mm.devices 1 # says so if there are GPUs that torch cannot use
# One process per GPU; without GPUs, two on the CPU.
processes=$(python -c 'import torch; print(min(torch.cuda.device_count(), 2) or 2)')

# Replaces the (sub)shell that calls it, so that a signal reaches the launcher.
train() {
    exec tools/dist_train.sh "$recipes/pretrain.py" "$processes" --work-dir "$pretrain_dir" \
        --cfg-options "randomness.seed=$seed" "$@"
}
transfer() { # NAME[=CHECKPOINT]...
    exec python tools/benchmarks/transfer.py "$@" --out "$work_dir" --gpus 1 --seeds "$seed" \
        --cls "$recipes/cls.py" --seg none --det none
}
# Of each line of the log what a person wants to know.
show() {
    sed -unE \
        -e 's/.*Epoch\(train\) +\[ *([0-9]+)\]\[ *([0-9/]+)\].* eta: ([0-9:]+) .* (loss: [0-9.]+).*/   epoch \1, step \2, \3 left, \4/p' \
        -e 's/.* - (probe after epoch [^;]*);.*/   \1/p' \
        -e '/stopped by|resumed|Error|^train: /s/^.* - (INFO|WARNING) - /   /p'
}
say() { printf '\n== %s\n' "$*"; }
step() { # N WHAT
    say "$1/3 $2: about ${minutes[$1 - 1]}, $((SECONDS - start)) s so far"
}

echo "On two cores that are free otherwise this takes $whole."
step 1 "mini scenes, most of them without labels: $data"
python tools/dataset_converters/make_mini.py "$data" "${scenes[@]}"

rm -rf "$work_dir"
mkdir -p "$pretrain_dir"
nice -n 19 python tools/analysis_tools/report.py "$work_dir" --watch > "$work_dir/report.log" 2>&1 &
reporter=$!
trap 'kill "$reporter" 2> /dev/null || true' EXIT

step 2 "pretraining with $processes processes, stopped in the middle; all output in $log"
echo "   Open $report in a browser: it grows."
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
say 'the same command with --resume'
(train --resume > >(tee -a "$log" | show) 2>&1) || {
    echo "demo: the resumed run failed, see $log" >&2
    exit 1
}
checkpoint=$(cat "$pretrain_dir/last_checkpoint")

step 3 'classification with few labels, from these weights and from scratch'
running=()
for entry in "adpe=$checkpoint" scratch; do # at the same time, one process each
    (OMP_NUM_THREADS=1 transfer "$entry" > "$work_dir/${entry%%=*}.log" 2>&1) &
    running+=($!)
done
for job in "${running[@]}"; do
    wait "$job" || {
        cat "$work_dir"/{adpe,scratch}.log >&2
        exit 1
    }
done

kill "$reporter" 2> /dev/null || true
wait "$reporter" || true
say "done in $((SECONDS - start)) s"
python tools/analysis_tools/report.py "$work_dir"
echo "checkpoint: $checkpoint"
