#!/usr/bin/env bash
# Few labels of real images: pretrain on the 60,000 of Fashion-MNIST without labels, fine-tune on
# 20 of each class, test on 10,000. The recipes are in configs/benchmarks/fashion_mnist. Stop it at
# any time; the same command goes on where it was.
#   apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist*.deb fashion
#   SOURCE=fashion/usr/share/datasets/fashion-mnist tools/benchmarks/fashion_mnist.sh
# SOURCE is the folder of the four files, wherever they come from. ENTRIES, SEEDS: see mini.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

data=${DATA:-data/fashion_mnist}
work_dir=${WORK_DIR:-work_dirs/fashion_mnist}
recipes=configs/benchmarks/fashion_mnist
export FASHION_MNIST=$data # the configs look there
read -r -a seeds <<< "${SEEDS:-0 1 2}"
read -r -a names <<< "${ENTRIES:-scratch adpe_vit-mini_mini maeplus_vit-mini_mini}"

entries=()
for name in "${names[@]}"; do
    case $name in
        scratch | */*) entries+=("$name") ;;
        *) entries+=("$recipes/$name.py") ;;
    esac
done

if [ ! -e "$data" ]; then
    python tools/dataset_converters/fashion_mnist.py "${SOURCE:?folder of the four files}" "$data" \
        --labelled 20
fi
exec python tools/benchmarks/transfer.py "${entries[@]}" --gpus "${GPUS:-1}" --out "$work_dir" \
    --seeds "${seeds[@]}" --cls "$recipes/cls.py" --seg none --det none
