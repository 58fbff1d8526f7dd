#!/usr/bin/env python
"""Pretrain, fine-tune on three tasks, test, and write the table: all by one command.

    python tools/benchmarks/transfer.py configs/pretrain/adpe_vit-b_1600e.py \\
        configs/pretrain/maeplus_vit-b_rpe_1600e.py --gpus 8 --out work_dirs/transfer
    python tools/benchmarks/transfer.py mae=mae.pth adpe=adpe.pth --seeds 0 1 2
    python tools/benchmarks/transfer.py CONFIG --slurm PARTITION    # prints the commands only

Each entry is a config of pretraining, NAME=CHECKPOINT, or the word scratch, which gets no
layer-wise lr decay: that is for weights that know something. Stop it and give the same command
again: what is complete is left alone, what was interrupted is resumed. In OUT are a folder for each
entry, with one for each run, the tables, and report.html.
"""

import argparse
from pathlib import Path

import torch

from adpe_mm.evaluation.report import make_report, write_report
from adpe_mm.evaluation.tables import load_paper, read_results, tables, to_markdown, write_tables
from adpe_mm.evaluation.transfer import TASKS, execute_all, plan, predict
from adpe_mm.launch import one_sentence_errors
from adpe_mm.stopping import stop

TOOLS = Path(__file__).resolve().parents[1]
CONFIGS = dict(
    cls='configs/cls/adpe-vit-b_100e_in1k.py',
    seg='configs/seg/upernet_adpe-vit-b_160k_ade20k-512x512.py',
    det='configs/det/mask-rcnn_adpe-vit-b_100e_coco.py',
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('entries', nargs='+', help='configs, NAME=CHECKPOINT, or scratch')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/transfer'))
    for task in TASKS:
        parser.add_argument(
            f'--{task}',
            default=CONFIGS[task],
            help=f"config of the task, or 'none'; {CONFIGS[task]}",
        )
        parser.add_argument(f'--{task}-options', nargs='+', default=[], help='key=value')
    parser.add_argument('--pretrain-options', nargs='+', default=[], help='key=value')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument(
        '--repeat-pretraining', action='store_true', help='pretrain for each seed anew'
    )
    parser.add_argument('--gpus', type=int, help='processes per run; all GPUs, or 2 on a CPU')
    parser.add_argument('--slurm', metavar='PARTITION', help='print Slurm commands, run nothing')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    stop.listen()  # its commands end with it
    processes = args.gpus or torch.cuda.device_count() or 2
    runs = list(plan(args))
    if args.slurm:
        print('# One after the other; those of different entries may run at the same time.')
        for run in runs:
            print(run.slurm_command(args.slurm, processes))
        print(f'python tools/analysis_tools/transfer_table.py {args.out} --out {args.out}')
        return
    execute_all(runs, TOOLS, processes)
    for run in runs:
        if run.checkpoint is not None and run.work_dir.name.endswith(f'_seed{args.seeds[0]}'):
            predict(run, TOOLS)
    paper = load_paper(TOOLS / 'analysis_tools' / 'paper_results.yml')
    found = tables(read_results([args.out]), paper)
    write_tables(found, args.out)
    parts = (table.measured for table in found)
    print(to_markdown([part for part in parts if part.cells]))
    report = args.out / 'report.html'
    write_report(report, make_report(args.out, 'AdPE: pretraining and transfer', paper))
    print(f'wrote transfer_table.md, .csv and .png, and {report.name} to {args.out}')


if __name__ == '__main__':
    with one_sentence_errors('transfer'):
        main()
