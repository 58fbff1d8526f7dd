"""Files of features that are written while they are computed."""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from adpe_mm.errors import UserError

ROWS = 4096  # that are written at once: of paths to .npz, per row group of .parquet
Batches = Iterator[tuple[np.ndarray, list[str]]]


def write_features(path: str | Path, batches: Batches) -> tuple[int, int]:
    """Write features and paths as they come, in memory that does not grow with their number.

    Args:
        path: A .npz with ``features`` (N, E) float32 and ``paths`` (N,), or a .parquet with the
            columns ``path`` and ``features``. It is there when all is written.
        batches: Of `iterate_features`, of files and of one layer.

    Returns:
        N and E.

    Raises:
        ValueError: For another ending, or a .parquet without pyarrow.
    """
    path = Path(path)
    writers = {'.npz': _write_npz, '.parquet': _write_parquet}
    if path.suffix not in writers:
        raise UserError(f"features are written to .npz or .parquet, not to '{path}'")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.part')
    try:
        shape = writers[path.suffix](part, batches)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return shape


def _write_npz(path: Path, batches: Batches) -> tuple[int, int]:
    """What `numpy.savez` writes; rows go to a file of their own until their number is known."""
    names: list[str] = []
    width = 0
    with tempfile.TemporaryFile(dir=path.parent) as rows:
        for features, paths in batches:
            rows.write(features.astype('<f4', copy=False).tobytes())
            names += paths
            width = features.shape[1]
        rows.seek(0)
        with zipfile.ZipFile(path, 'w') as archive:
            with _member(archive, 'features', '<f4', (len(names), width)) as member:
                shutil.copyfileobj(rows, member, 2**20)
            dtype = f'<U{max(map(len, names))}'
            with _member(archive, 'paths', dtype, (len(names),), zipfile.ZIP_DEFLATED) as member:
                for i in range(0, len(names), ROWS):
                    member.write(np.array(names[i : i + ROWS], dtype).tobytes())
    return len(names), width


def _member(archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple, compression: int = 0):
    """An array of an .npz, open to write its values."""
    info = zipfile.ZipInfo(f'{name}.npy')
    info.compress_type = compression
    member = archive.open(info, 'w', force_zip64=True)
    header = dict(descr=dtype, fortran_order=False, shape=shape)
    np.lib.format.write_array_header_1_0(member, header)
    return member


def _write_parquet(path: Path, batches: Batches) -> tuple[int, int]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            f"'{path.with_suffix('')}' needs pyarrow: install it, or write a .npz"
        ) from None
    count, width, writer = 0, 0, None
    try:
        for features, paths in _grouped(batches):
            count, width = count + len(paths), features.shape[1]
            rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.ravel()), width)
            table = pyarrow.table(dict(path=paths, features=rows))
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer:
            writer.close()
    return count, width


def _grouped(batches: Batches) -> Batches:
    """The same rows in larger batches."""
    features: list[np.ndarray] = []
    paths: list[str] = []
    for part, names in batches:
        features.append(part)
        paths += names
        if len(paths) >= ROWS:
            yield np.concatenate(features), paths
            features, paths = [], []
    if paths:
        yield np.concatenate(features), paths
