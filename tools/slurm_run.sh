#!/usr/bin/env bash
# Run a script of tools/ as a Slurm job step (what slurm_train.sh and slurm_test.sh do):
#   [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=10 SRUN_ARGS=...] \
#       tools/slurm_run.sh PARTITION JOB_NAME SCRIPT [arguments]
set -euo pipefail
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
read -r -a srun_args <<< "${SRUN_ARGS:-}"

PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec srun \
    --partition="$1" \
    --job-name="$2" \
    --gres="gpu:$gpus_per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-10}" \
    --kill-on-bad-exit=1 \
    "${srun_args[@]}" \
    "${PYTHON:-python}" -u "$root/tools/$3" "${@:4}" --launcher slurm
