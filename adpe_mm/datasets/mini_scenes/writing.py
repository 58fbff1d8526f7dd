"""A whole data set: drawn by several processes, complete or not there at all."""

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path

import cv2
from PIL import Image

from adpe_mm.errors import FileInTheWay, MissingFile, UserError

from ..images import EXTENSIONS
from .geometry import class_names
from .layouts import VERSION, folders, palette, write_scene, write_split
from .scenes import SPLITS, Options


def start_worker() -> None:
    """Keep to one core, as there is a process for each, and leave Ctrl-C to the main process."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def find_photos(folder: str) -> list[str]:
    """Paths of the photographs below a folder, sorted; what is no image is named and left out.

    Raises:
        FileNotFoundError: If there is none.
    """
    photos = []
    for path in sorted(Path(folder).rglob('*')):
        if path.suffix.lower() not in EXTENSIONS:
            continue
        try:
            with Image.open(path):
                photos.append(str(path))
        except (OSError, Image.DecompressionBombError) as error:
            print(f'left out: {error}')
    if not photos:
        raise MissingFile(
            f"there is no photograph ({', '.join(EXTENSIONS)}) in '{folder}': set --photos to "
            'a folder with some, or leave it out'
        )
    return photos


def fingerprint(options: Options, photos: list[str]) -> dict:
    """What decides about the bytes: the options, with the photographs for the path to them."""
    facts = dataclasses.asdict(options)
    if photos:
        listing = [f'{os.path.relpath(p, options.photos)} {os.path.getsize(p)}' for p in photos]
        facts['photos'] = hashlib.sha256('\n'.join(listing).encode()).hexdigest()
    return dict(generator=f'make_mini {VERSION}', **facts)


def write_all(root: Path, options: Options, photos: list[str], workers: int) -> dict:
    """Draw all splits into an empty folder. Returns what is in meta.json."""
    names = class_names(options.classes)
    counts = {}
    for folder in folders(options):
        (root / folder).mkdir(parents=True)
    # Forking a process that has threads may hang, and an importer may have some.
    with multiprocessing.get_context('spawn').Pool(workers, start_worker) as pool:
        for split in SPLITS:
            count = getattr(options, split)
            job = functools.partial(
                write_scene, split=split, options=options, root=root, photos=photos
            )
            scenes = pool.imap(job, range(count), chunksize=16)
            counts[split] = dict(pictures=count, objects=write_split(scenes, split, names, root))
    meta = dict(
        classes=names,
        seg_classes=[*names, 'background'],  # value i + 1 in ADE's annotations
        palette=palette(len(names)),
        counts=counts,
        options=fingerprint(options, photos),
    )
    (root / 'meta.json').write_text(json.dumps(meta, indent=2) + '\n')
    return meta


def read_meta(out: Path) -> dict | None:
    """The meta.json of mini scenes, or None if `out` holds something else."""
    try:
        meta = json.loads((out / 'meta.json').read_text())
        return meta if meta['options']['generator'].startswith('make_mini') else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_mini(
    out: str | Path, options: Options, workers: int | None = None, overwrite: bool = False
) -> dict:
    """Draw a data set, unless it is there already.

    It is drawn into a temporary folder beside `out`, which is renamed when complete: what is
    called `out` is never half made.

    Args:
        out: Folder to make.
        options: What to draw.
        workers: Number of processes; None is one per core. No matter for the result.
        overwrite: Replace mini scenes drawn with other options.

    Returns:
        The content of meta.json.

    Raises:
        FileExistsError: If `out` holds something else, or was drawn with other options and
            `overwrite` is not set.
        FileNotFoundError: If the folder of photographs has none.
        ValueError: If `workers` is below 1, or a photograph is broken.
    """
    if workers is not None and workers < 1:
        raise UserError(f'--workers must be at least 1, got {workers}')
    out = Path(out).resolve()
    photos = find_photos(options.photos) if options.photos else []
    occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if occupied:
        meta = read_meta(out)
        if meta is None:
            raise FileInTheWay(
                f"'{out}' exists and holds no mini scenes: name another folder, or remove it"
            )
        wanted, found = fingerprint(options, photos), meta['options']
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
        meta = write_all(new, options, photos, workers)
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
