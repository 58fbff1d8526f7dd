#!/usr/bin/env bash
# Run a script of tools/ in several processes on one or more machines (what dist_train.sh and
# dist_test.sh do):
#   tools/dist_run.sh GPUS SCRIPT [arguments]
# Several machines: run it on each with NNODES, NODE_RANK and MASTER_ADDR (and PORT) set.
# Without GPUs, GPUS processes share the CPU, over gloo.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$1" \
    "$root/tools/$2" "${@:3}" --launcher pytorch
