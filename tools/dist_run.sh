#!/usr/bin/env bash
# Run a script of tools/ in several processes on one or more machines (what dist_train.sh and
# dist_test.sh do):
#   tools/dist_run.sh GPUS SCRIPT [arguments]
# Several machines: run it on each with NNODES, NODE_RANK and MASTER_ADDR (and PORT, 29500) set.
# On one machine any free port does, so that runs do not meet.
# Without GPUs, GPUS processes share the CPU, over gloo.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

die() {
    echo "${2%.py}: $1" >&2
    exit 2
}
[[ $1 =~ ^[1-9][0-9]*$ ]] || die "the number of GPUs must be 1 or more, not '$1'" "$2"
[[ ${NNODES:-1} == 1 || (-n ${MASTER_ADDR:-} && -n ${NODE_RANK:-}) ]] ||
    die "NNODES=$NNODES needs MASTER_ADDR, the name of the first machine, and NODE_RANK, 0 on it, 1 on the next" "$2"
# Said once and before anything starts, not by each process.
"$python" -m adpe_mm.devices "$1" || exit

port=${PORT:-29500}
if [[ ${NNODES:-1} == 1 ]]; then
    port=$("$python" -c 'import socket, sys; free = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(free.getsockname()[1])' "${PORT:-0}" 2>/dev/null) ||
        die "PORT=$PORT is no free port: another run may have it, leave PORT out" "$2"
fi

exec "$python" -m adpe_mm.torchrun \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="$port" \
    --nproc_per_node="$1" \
    "$root/tools/$2" "${@:3}" --launcher pytorch
