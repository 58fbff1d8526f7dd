#!/usr/bin/env bash
# The larger rehearsal on mini scenes: many images without labels, few with; scratch, mmpretrain's
# MAE, MAE+ and every variant of AdPE, on three tasks, with three seeds. The recipes are in
# configs/benchmarks/mini. Stop it at any time; the same command goes on where it was.
#   DATA=data/mini_benchmark WORK_DIR=work_dirs/mini_benchmark SEEDS="0 1 2" make mini-benchmark
# ENTRIES names configs of that folder (without .py), paths of others, and scratch; TASKS some
# of cls, seg and det. JOBS trainings run at a time, one process each: one for every GPU, two on a CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

data=${DATA:-data/mini_benchmark}
work_dir=${WORK_DIR:-work_dirs/mini_benchmark}
recipes=${RECIPES:-configs/benchmarks/mini} # photographs.sh has others, and data of its own
export MINI_DATA=$data # the configs look there
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
jobs=${JOBS:-$((gpus ? gpus : 2))}
read -r -a seeds <<< "${SEEDS:-0 1 2}"
read -r -a names <<< "${ENTRIES:-scratch adpe_vit-mini_mini maeplus_vit-mini_mini mae_vit-mini_mini \
    maeplus_vit-mini_ape_mini adpe_vit-mini_ape-embed_mini adpe_vit-mini_rpe-embed_mini \
    adpe_vit-mini_ape-coord_mini}"
read -r -a scenes <<< "${SCENES:---size 64 --train 800 --val 400 --unlabelled 8000 --others 0 \
    --variation 30}"
# All processors, shared by the jobs.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((($(nproc) + jobs - 1) / jobs))}

entries=()
for name in "${names[@]}"; do
    case $name in
        scratch | */*) entries+=("$name") ;;
        *) entries+=("$recipes/$name.py") ;;
    esac
done

tasks=()
for task in cls seg det; do
    case " ${TASKS:-cls seg det} " in
        *" $task "*) tasks+=("--$task" "$recipes/$task.py") ;;
        *) tasks+=("--$task" none) ;;
    esac
done

transfer() { # ENTRIES...
    exec python tools/benchmarks/transfer.py "$@" --gpus 1 --out "$work_dir" \
        --seeds "${seeds[@]}" "${tasks[@]}"
}

if [ -z "${RECIPES:-}" ]; then
    python tools/dataset_converters/make_mini.py "$data" "${scenes[@]}"
fi

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
