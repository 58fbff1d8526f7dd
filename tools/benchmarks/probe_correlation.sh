#!/usr/bin/env bash
# Which probe to believe: the mini benchmark's classification, then the rank correlation of each
# probe with what fine-tuning reached. It takes the variables of mini.sh, and goes on where it was.
#   DATA=data/mini_benchmark WORK_DIR=work_dirs/mini_benchmark tools/benchmarks/probe_correlation.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export DATA=${DATA:-data/mini_benchmark} WORK_DIR=${WORK_DIR:-work_dirs/mini_benchmark}
TASKS=${TASKS:-cls} bash tools/benchmarks/mini.sh
python tools/analysis_tools/probe_correlation.py "$WORK_DIR" "$DATA/imagenet"
