"""Whether a checkpoint is whole: every byte that `torch.save` wrote is looked at.

Such a file is a zip archive whose parts are stored as they are, with a CRC-32 of each, which
`torch.load` does not look at: it takes a flipped bit of a weight for a weight. What lies between
the parts (their headers, the padding that aligns them, the table of contents) has no checksum, but
is written twice, or is known.
"""

import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from adpe_mm.errors import MissingFile, UserError

CHUNK = 2**20  # bytes that are read at once
# What `torch.save` wrote before it wrote zip archives: a pickle that begins with its magic number.
_FORMER_FORMAT = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_ZIP = b'PK\x03\x04'
_PADDING, _LONG = b'FB', b'\1\0'  # extra fields: what aligns a part, and numbers beyond 4 GB
_HEADER = struct.Struct('<4s5H3L2H')
_END_64 = struct.Struct('<4sQ2H2L4Q')
_LOCATOR = struct.Struct('<4sLQL')
_END = struct.Struct('<4s4H2LH')
_WRITERS = {(0x31E, 45), (45, 45)}  # versions at the end of an archive: of torch, of Python


def check_whole(path: str | Path) -> bool:
    """Make sure that a file of `torch.save` is whole and unchanged.

    All of it is read once, which takes about half a second per GB. What this process has checked
    before is not read again, unless the file has changed since.

    Args:
        path: The file.

    Returns:
        Whether it has checksums. Files of torch before 1.6 have none, nor have those that were
        saved after ``torch.serialization.set_crc32_options(False)``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, not whole, or no such file.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(file.name for file in path.glob('*.pth'))
        advice = f"'{path / inside[-1]}'" if inside else 'a file'
        raise UserError(f"'{path}' is a folder, and no checkpoint: name {advice} instead")
    if not path.is_file():
        raise MissingFile(f"there is no checkpoint '{path}'")
    state = path.stat()
    return _check(path.absolute(), path, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=64)
def _check(absolute: Path, path: Path, size: int, *state: int) -> bool:
    with open(path, 'rb') as file:
        start = file.read(64)
    if not start:
        raise UserError(f"'{path}' is empty: copy it anew, or use another checkpoint")
    if start.startswith(_FORMER_FORMAT):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return _check_archive(archive)
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error}): copy it anew") from error
    except Exception as error:  # `zipfile` has a dozen for what it does not understand
        reason = _no_archive(start, size) or f'is damaged: {error}'
        raise UserError(f"'{path}' {reason}: copy it anew, or use another checkpoint") from error


def _no_archive(start: bytes, size: int) -> str | None:
    """What a file is that neither begins as an archive nor can be read as one."""
    if start.startswith(_ZIP):
        return None
    text = start.split(b'\n')[0].decode('ascii', 'replace').strip()
    if text and text.isprintable() and text.isascii():
        return f"is a text, which begins with '{text[:40]}', and no checkpoint"
    if not any(start):
        return f'is damaged: it begins with {len(start)} zeros'
    return f'is no checkpoint, or its beginning is damaged ({size} bytes)'


def _check_archive(archive: zipfile.ZipFile) -> bool:
    """See `check_whole`.

    Raises:
        zipfile.BadZipFile: With what is wrong.
    """
    entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        broken = archive.testzip()  # packed by something else than torch
        if broken:
            raise zipfile.BadZipFile(f'the checksum of {broken} is wrong')
        return True
    has_checksums = any(entry.CRC for entry in entries)
    end = 0
    for entry in entries:
        if entry.header_offset != end:
            raise zipfile.BadZipFile(f'{entry.filename} is not where the table of contents says')
        end = _check_entry(archive.fp, entry, has_checksums)
    settings = {  # of the one who wrote them all
        (e.create_system, e.create_version, e.extract_version, e.internal_attr, e.external_attr)
        for e in entries
    }
    if end != archive.start_dir or len(settings) > 1:
        raise zipfile.BadZipFile('its table of contents is wrong')
    _check_end(archive, entries)
    return has_checksums


def _check_entry(file, entry: zipfile.ZipInfo, has_checksums: bool) -> int:
    """Compare one part of an archive with its entry in the table of contents.

    Returns:
        Where the next one begins.
    """
    name = entry.orig_filename.encode()
    year, month, day, hour, minute, second = entry.date_time
    file.seek(entry.header_offset)
    header = _HEADER.unpack(_read(file, _HEADER.size))
    signature, version, flags, method, time, date, crc, packed, full, name_size, extra_size = header
    extra = _read(file, name_size + extra_size)
    given_name, extra = extra[:name_size], extra[name_size:]
    fields = _extra_fields(extra)
    streamed = bool(flags & 8)  # checksum and size follow behind
    expected = (0, 0, 0) if streamed else (entry.CRC, entry.file_size, entry.file_size)
    known = (
        (signature, version, flags, method, given_name)
        == (_ZIP, entry.extract_version, entry.flag_bits, entry.compress_type, name)
        and date == (year - 1980) << 9 | month << 5 | day
        and time == hour << 11 | minute << 5 | second // 2
        and (entry.compress_size, entry.volume, entry.reserved) == (entry.file_size, 0, 0)
        and ((crc, packed, full) == expected or 0xFFFFFFFF in (packed, full))
        and set(fields) <= {_PADDING, _LONG}
        and not fields.get(_PADDING, b'').strip(b'Z')
        and set(_longs(fields)) <= {0, entry.file_size, entry.header_offset}
    )
    if not known:
        raise zipfile.BadZipFile(f'the header of {entry.filename} is wrong')
    checksum, left = 0, entry.file_size
    while left:
        part = _read(file, min(left, CHUNK))
        checksum = zlib.crc32(part, checksum)
        left -= len(part)
    if has_checksums and checksum != entry.CRC:
        raise zipfile.BadZipFile(f'the checksum of {entry.filename} is wrong')
    if streamed:
        sizes = '<4sL2Q' if _LONG in fields else '<4s3L'
        descriptor = struct.pack(sizes, b'PK\7\x08', entry.CRC, entry.file_size, entry.file_size)
        if _read(file, len(descriptor)) != descriptor:
            raise zipfile.BadZipFile(f'what follows {entry.filename} is wrong')
    return file.tell()


def _extra_fields(extra: bytes) -> dict[bytes, bytes]:
    """Content of the extra fields of a header by their kind."""
    fields = {}
    while extra:
        kind, size = struct.unpack_from('<2sH', extra)
        fields[kind], extra = extra[4 : 4 + size], extra[4 + size :]
        if len(fields[kind]) != size:
            raise zipfile.BadZipFile('a header is wrong')
    return fields


def _longs(fields: dict[bytes, bytes]) -> tuple[int, ...]:
    """Sizes and place of what takes, or lies beyond, 4 GB."""
    content = fields.get(_LONG, b'')
    return struct.unpack(f'<{len(content) // 8}Q', content)


def _check_end(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> None:
    """Compare the end of an archive, which says three times where its table of contents is."""
    file, start = archive.fp, archive.start_dir
    file.seek(start)
    table = file.read()
    length = 0
    for entry in archive.infolist():  # `zipfile` cuts short what says that it goes on
        sizes = len(entry.orig_filename.encode()), len(entry.extra), len(entry.comment)
        if struct.unpack_from('<3H', table, length + 28) != sizes:
            raise zipfile.BadZipFile('its table of contents is wrong')
        length += 46 + sum(sizes)
    end = table[length:]
    count = len(entries)
    short = min(count, 0xFFFF), min(length, 0xFFFFFFFF), min(start, 0xFFFFFFFF)
    last = _END.pack(b'PK\5\6', 0, 0, short[0], *short, len(archive.comment)) + archive.comment
    locator = _LOCATOR.pack(b'PK\6\7', 0, start + length, 1)
    expected = [last]
    for versions in _WRITERS:
        long = _END_64.pack(b'PK\6\6', 44, *versions, 0, 0, count, count, length, start)
        expected.append(long + locator + last)
    if end not in expected:
        raise zipfile.BadZipFile('its end is wrong')


def _read(file, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise EOFError('its end is missing')
    return content
