"""A whole data set: drawn by several processes, complete or not there at all."""

import functools
import json
import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path

import cv2

from adpe_mm.errors import FileInTheWay, UserError

from .layouts import SPLITS, Scenes, folders, palette, write_scene, write_split


def start_worker() -> None:
    """Keep to one core, as there is a process for each, and leave Ctrl-C to the main process."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def fingerprint(scenes: Scenes) -> dict:
    """What decides about the bytes."""
    return dict(generator=f'{scenes.tool} {scenes.version}', **scenes.options())


def write_all(root: Path, scenes: Scenes, workers: int) -> dict:
    """Draw all splits into an empty folder. Returns what is in meta.json."""
    names = scenes.names
    counts = {}
    for folder in folders(scenes):
        (root / folder).mkdir(parents=True)
    # Forking a process that has threads may hang, and an importer may have some.
    with multiprocessing.get_context('spawn').Pool(workers, start_worker) as pool:
        for split in SPLITS:
            count = scenes.counts[split]
            job = functools.partial(write_scene, split=split, scenes=scenes, root=root)
            written = pool.imap(job, range(count), chunksize=16)
            counts[split] = dict(pictures=count, objects=write_split(written, split, scenes, root))
    meta = dict(
        classes=names,
        seg_classes=[*names, 'background'],  # value i + 1 in ADE's annotations
        palette=palette(len(names)),
        counts=counts,
        options=fingerprint(scenes),
    )
    (root / 'meta.json').write_text(json.dumps(meta, indent=2) + '\n')
    return meta


def read_meta(out: Path, tool: str) -> dict | None:
    """The meta.json of a data set that `tool` drew, or None if `out` holds something else."""
    try:
        meta = json.loads((out / 'meta.json').read_text())
        return meta if meta['options']['generator'].split()[0] == tool else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def write_data_set(
    out: str | Path, scenes: Scenes, workers: int | None = None, overwrite: bool = False
) -> dict:
    """Draw a data set, unless it is there already.

    It is drawn into a temporary folder beside `out`, which is renamed when complete: what is
    called `out` is never half made.

    Args:
        out: Folder to make.
        scenes: What to draw.
        workers: Number of processes; None is one per core. No matter for the result.
        overwrite: Replace such a data set drawn with other options.

    Returns:
        The content of meta.json.

    Raises:
        FileExistsError: If `out` holds something else, or was drawn with other options and
            `overwrite` is not set.
        ValueError: If `workers` is below 1.
    """
    if workers is not None and workers < 1:
        raise UserError(f'--workers must be at least 1, got {workers}')
    out = Path(out).resolve()
    occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if occupied:
        meta = read_meta(out, scenes.tool)
        if meta is None:
            raise FileInTheWay(
                f"'{out}' exists and holds no {scenes.title}: name another folder, or remove it"
            )
        # As they were read: JSON has no tuples.
        wanted, found = json.loads(json.dumps(fingerprint(scenes))), meta['options']
        if found == wanted:
            print(f'{out} is there already, drawn with these options')
            return meta
        if not overwrite:
            differing = [
                f'{key} {found.get(key)}, not {value}'
                for key, value in wanted.items()
                if found.get(key) != value
            ]
            raise FileInTheWay(
                f"'{out}' was drawn with {'; '.join(differing)}: name another folder, or replace "
                'it with --overwrite'
            )
    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}-', dir=out.parent) as scratch:
        new, old = Path(scratch, 'new'), Path(scratch, 'old')
        new.mkdir()
        workers = workers or len(os.sched_getaffinity(0))
        meta = write_all(new, scenes, workers)
        if occupied:
            out.rename(old)
        new.rename(out)
    seconds = time.perf_counter() - start
    images = sum(count['pictures'] for count in meta['counts'].values())
    for split, count in meta['counts'].items():
        print(f'{split}: {count["pictures"]} images, {count["objects"]} labelled objects')
    print(
        f'drew {images} images of {len(meta["classes"])} classes into {out} in {seconds:.0f} s '
        f'({images / seconds:.0f}/s, {workers} processes)'
    )
    return meta
