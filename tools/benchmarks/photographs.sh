#!/usr/bin/env bash
# Photographs: objects that were cut out, pasted on backgrounds; those to test on are never seen
# before. Pretrain on 8000 images without labels, fine-tune on 800, three tasks. The recipes are in
# configs/benchmarks/photographs. Stop it at any time; the same command goes on where it was.
#   apt-get download tuxpaint-stamps-default lomiri-wallpapers-16.04 lomiri-wallpapers-20.04
#   for package in *.deb; do dpkg -x "$package" photos; done
#   SOURCE=photos/usr/share tools/benchmarks/photographs.sh
# ENTRIES, SEEDS, TASKS, JOBS: see mini.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

data=${DATA:-data/photographs}
recipes=configs/benchmarks/photographs

if [ ! -e "$data" ]; then
    stamps=${SOURCE:?folder of the unpacked packages}/tuxpaint/stamps
    python tools/dataset_converters/paste_cutouts.py "$data" --photos "$SOURCE/backgrounds" \
        --without cartoon 00_symbols --objects \
        "mammal=$stamps/animals/mammals,$stamps/animals/marsupials" "bird=$stamps/animals/birds" \
        "insect=$stamps/animals/insects" "fruit=$stamps/food/fruit" \
        "vegetable=$stamps/food/vegetables" "flower=$stamps/plants/flowers" \
        "coin=$stamps/symbols/money" "tool=$stamps/household"
fi
export PHOTOGRAPHS=$data # the configs look there
export RECIPES=$recipes DATA=$data WORK_DIR=${WORK_DIR:-work_dirs/photographs}
export ENTRIES=${ENTRIES:-scratch mae_vit-mini_photographs maeplus_vit-mini_photographs \
adpe_vit-mini_photographs}
exec tools/benchmarks/mini.sh
