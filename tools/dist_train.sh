#!/usr/bin/env bash
# Train with several processes on one or more machines:
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Several machines: run it on each with NNODES, NODE_RANK and MASTER_ADDR (and PORT) set.
# Without GPUs, GPUS processes share the CPU, over gloo.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1] $0 CONFIG GPUS [arguments]" >&2
    exit 2
fi
exec "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" "$2" train.py "$1" "${@:3}"
