"""What a check found, and the two forms of the report, of which the second is read, too."""

import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from adpe_mm.errors import MissingFile, UserError

STATUSES = ('PASS', 'FAIL', 'measured', 'skipped')


@dataclass
class Row:
    """One line of the report.

    Attributes:
        check: The part that it belongs to.
        case: What was looked at.
        status: 'PASS' or 'FAIL' of what has a right answer, 'measured' of what has none, 'skipped'.
        value: What came out, or why it was skipped.
    """

    check: str
    case: str
    status: str
    value: str = ''


def verdict(check: str, case: str, right: bool, value: str) -> Row:
    """A row of what has a right answer."""
    return Row(check, case, 'PASS' if right else 'FAIL', value)


def run_checks(
    checks: dict[str, Callable[[], Iterator[Row]]], say: Callable[[str], None]
) -> list[Row]:
    """Run all checks; one that raises is a FAIL with its error, and the next ones still run."""
    rows = []
    for name, check in checks.items():
        start = time.monotonic()
        try:
            for row in check():
                rows.append(row)
                say(f'{row.status:>8}  {row.check}: {row.case}: {row.value}')
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = f'{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}'
            rows.append(Row(name, 'the check itself', 'FAIL', told))
            say(traceback.format_exc())
        rows.append(Row(name, 'time', 'measured', f'{time.monotonic() - start:.0f} s'))
    return rows


def as_markdown(rows: list[Row], about: dict) -> str:
    """The report as a page: on what it ran, the numbers of each verdict, and all rows."""
    versions = ', '.join(f'{name} {version}' for name, version in about['versions'].items())
    counts = {status: sum(row.status == status for row in rows) for status in STATUSES}
    lines = [
        f'{about["device"]}; driver {about["driver"]}; {versions}; {about["date"]}: '
        + ', '.join(f'{n} {status}' for status, n in counts.items()),
        '',
        '| check | case | | |',
        '|---|---|---|---|',
    ]
    for row in rows:
        status = f'**{row.status}**' if row.status == 'FAIL' else row.status
        value = row.value.replace('|', '\\|').replace('\n', ' ')
        lines.append(f'| {row.check} | {row.case} | {status} | {value} |')
    return '\n'.join(lines) + '\n'


def write_report(rows: list[Row], out: Path, about: dict) -> list[Path]:
    """Write ``gpu_check.md`` and ``gpu_check.json`` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    page, data = out / 'gpu_check.md', out / 'gpu_check.json'
    page.write_text(f'# GPU check\n\n{as_markdown(rows, about)}', encoding='utf-8')
    content = dict(about, rows=[asdict(row) for row in rows])
    data.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    return [page, data]


def read_report(path: Path) -> tuple[list[Row], dict]:
    """Rows of a ``gpu_check.json``, and on what it ran.

    Raises:
        MissingFile: If there is no such file.
        UserError: If it is something else.
    """
    if not path.is_file():
        raise MissingFile(f"there is no report '{path}': gpu_check.py writes gpu_check.json")
    try:
        about = json.loads(path.read_text(encoding='utf-8'))
        rows = [Row(**row) for row in about.pop('rows')]
        return rows, {key: about[key] for key in ('device', 'driver', 'versions', 'date')}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' is no report of gpu_check.py: {error}") from error
