"""The version of adpe_mm, and the check of the installed libraries against the tested ones.

Only the metadata of the installed distributions is read, so nothing heavy is imported.
"""

import importlib.util
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

__version__ = '0.1.0'


@dataclass(frozen=True)
class Library:
    """A library that adpe_mm stands on, and the versions of it that are known to work.

    Attributes:
        module: Name to import.
        distributions: Names that it is distributed under, the recommended one first.
        minimum: Oldest tested version. Older ones are refused.
        tested: The version of the lock.
        below: First release series that was not tested. From there on a warning is given.
        required: False for a library that only one of the tasks needs.
    """

    module: str
    distributions: tuple[str, ...]
    minimum: str
    tested: str
    below: str
    required: bool = True


# The first of the distributions are the OneDL builds, the others OpenMMLab's original ones.
LIBRARIES = (
    Library('torch', ('torch',), '2.6', '2.14.1', '2.16'),
    Library('torchvision', ('torchvision',), '0.21', '0.29.1', '0.30'),
    Library('simplejpeg', ('simplejpeg',), '1.7.6', '1.9.0', '2'),
    Library(
        'mmengine', ('onedl-mmengine', 'mmengine', 'mmengine-lite'), '0.10.7', '0.10.12', '0.11'
    ),
    Library('mmcv', ('onedl-mmcv', 'mmcv', 'mmcv-lite'), '2.2', '2.3.6', '2.4'),
    Library('mmpretrain', ('onedl-mmpretrain', 'mmpretrain'), '1.2', '1.3.6', '1.4'),
    Library(
        'mmseg', ('onedl-mmsegmentation', 'mmsegmentation'), '1.3', '1.4.2', '1.5', required=False
    ),
    Library('mmdet', ('onedl-mmdetection', 'mmdet'), '3.4.7', '3.5.1', '3.6', required=False),
)


def installed_distributions(library: Library) -> dict[str, str]:
    """Returns name and version of each installed distribution of ``library``."""
    found = {}
    for name in library.distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def how_to_install(library: Library) -> str:
    """Returns the command that installs the tested version of ``library``."""
    return f'pip install {library.distributions[0]}=={library.tested}'


def compare_versions(
    libraries: tuple[Library, ...] = LIBRARIES,
    installed: Callable[[Library], dict[str, str]] = installed_distributions,
) -> tuple[list[str], list[str]]:
    """Compares the installed libraries with the tested ones.

    Args:
        libraries: The libraries to look for.
        installed: Gives name and version of each installed distribution of a library.

    Returns:
        Two lists of one-line findings: those that adpe_mm cannot work with, and those that it was
        not tested with.
    """
    # Not at the top of the file: setup.py reads this file where packaging may be missing.
    from packaging.version import Version

    errors, doubts = [], []
    for library in libraries:
        found = installed(library)
        remedy = how_to_install(library)
        if not found:
            # A source tree on PYTHONPATH has no metadata: nothing is known of its version.
            if library.required and importlib.util.find_spec(library.module) is None:
                errors.append(f'{library.module} is not installed: {remedy}')
            continue

        findings = errors if library.required else doubts
        if len(found) > 1:
            both = ' and '.join(f'{name} {version}' for name, version in found.items())
            findings.append(
                f'{both} are both installed and overwrite the files of one another: '
                f'pip uninstall -y {" ".join(found)} && {remedy}'
            )
            continue

        ((name, version),) = found.items()
        if Version(version) < Version(library.minimum):
            findings.append(f'{name} {version} is older than {library.minimum}: {remedy}')
        elif Version(version).release >= Version(library.below).release:
            doubts.append(f'{name} {version} is newer than the tested {library.tested}')
    return errors, doubts


def somebody_watches() -> bool:
    """Returns whether a warning would be seen, and seen once.

    It is not in the processes of a loader or of the other GPUs, nor where the output of a program
    goes to another program or to a file: a run's log has the warning (`AdPERunner`).
    """
    ranks = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
    return (
        multiprocessing.parent_process() is None
        and all(os.environ.get(rank, '0') == '0' for rank in ranks)
        and (sys.stderr.isatty() or hasattr(sys, 'ps1'))
    )


def check_versions(
    libraries: tuple[Library, ...] = LIBRARIES,
    installed: Callable[[Library], dict[str, str]] = installed_distributions,
) -> None:
    """Gives one message about all libraries that are outside the tested range.

    Args:
        libraries: The libraries to look for.
        installed: Gives name and version of each installed distribution of a library.

    Raises:
        ImportError: If a required library is missing, too old, or installed by two distributions.

    Warns:
        UserWarning: If a library is newer than the tested ones, or an optional one does not fit,
            and somebody watches.
    """
    errors, doubts = compare_versions(libraries, installed)
    if errors:
        raise ImportError(
            f'adpe_mm {__version__} cannot work with the installed libraries:\n  '
            + '\n  '.join(errors + doubts)
        )
    if doubts and somebody_watches():
        warnings.warn(untested(doubts), stacklevel=2)


def untested(doubts: list[str]) -> str:
    """Returns the warning about what `compare_versions` found untested."""
    return f'adpe_mm {__version__} was not tested with these libraries:\n  ' + '\n  '.join(doubts)
