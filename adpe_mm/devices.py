"""Whether torch sees the GPUs of this machine, and if not, why and what to do.

    python -m adpe_mm.devices 8    whether 8 processes can run here, one per GPU

Without this, a torch that cannot use a machine's GPUs trains on its CPU, and says nothing.
"""

import os
import re
import sys
import warnings
from pathlib import Path

from adpe_mm.errors import MachineError

DRIVER = Path('/proc/driver/nvidia')  # is there when NVIDIA's kernel module is loaded
DEVICES = Path('/dev')
USE_CPU = "or set CUDA_VISIBLE_DEVICES='' to run on the CPU"

# The oldest driver for any release of a major CUDA version: NVIDIA, CUDA Compatibility, 'Minor
# Version Compatibility'.
OLDEST_DRIVER = {11: '450.80', 12: '525.60', 13: '580.65'}


def cpu_is_wanted() -> bool:
    """Returns whether the user hides all GPUs on purpose."""
    return os.environ.get('CUDA_VISIBLE_DEVICES', '0').strip() in ('', '-1')


def unused_gpu() -> str | None:
    """Finds out why torch sees no GPU on a machine that has an NVIDIA driver.

    Returns:
        One sentence on the reason and what to do; None if torch sees a GPU, if the machine has no
        driver, or if the user wants the CPU.
    """
    if cpu_is_wanted() or not DRIVER.is_dir():
        return None
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        if torch.cuda.is_available():
            return None
    driver, cuda = driver_version(), torch.version.cuda
    if cuda is None:
        return (
            f'this machine has an NVIDIA driver ({driver}), but torch {torch.__version__} is a '
            f'build without CUDA: install one with it (docs/install.md), {USE_CPU}'
        )
    needed = OLDEST_DRIVER.get(int(cuda.split('.')[0]))
    if needed and _numbers(driver) and _numbers(driver) < _numbers(needed):
        older = [m for m, oldest in OLDEST_DRIVER.items() if _numbers(driver) >= _numbers(oldest)]
        other = (
            f"torch's build for CUDA {max(older)} (docs/install.md)" if older else 'an older torch'
        )
        return (
            f'the NVIDIA driver {driver} is too old for torch {torch.__version__}, which is built '
            f'for CUDA {cuda} and needs driver {needed} or newer: update the driver, install '
            f'{other}, {USE_CPU}'
        )
    if not any(DEVICES.glob('nvidia[0-9]*')):
        return (
            f'this machine has an NVIDIA driver ({driver}), but no GPU can be reached from here: '
            f'start the container or the job with its GPUs (docker run --gpus all), {USE_CPU}'
        )
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        return (
            f"torch sees no GPU with CUDA_VISIBLE_DEVICES='{visible}': name GPUs of this machine, "
            f'counted from 0, {USE_CPU}'
        )
    reason = ' '.join(str(caught[0].message).split()) if caught else 'it gives no reason'
    return (
        f'torch {torch.__version__} for CUDA {cuda} sees no GPU, though driver {driver} is loaded '
        f'({reason}): see whether nvidia-smi works, {USE_CPU}'
    )


def driver_version() -> str:
    """Returns the version of the loaded NVIDIA driver, '535.104.05', or 'of unknown version'."""
    try:
        text = (DRIVER / 'version').read_text()
    except OSError:
        text = ''
    found = re.search(r'\b\d{3,}\.\d+(\.\d+)?\b', text)
    return found.group() if found else 'of unknown version'


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r'\d+', version)]


def too_many(processes: int) -> str | None:
    """Returns one sentence if there are more processes than GPUs; without GPUs, any number runs."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < gpus < processes:
        return (
            f'{processes} processes need {processes} GPUs and torch sees {gpus}: start {gpus}, '
            f'{USE_CPU}'
        )
    return None


def require(processes: int = 1) -> None:
    """Checks that the GPUs of this machine can be used by so many processes.

    Raises:
        MachineError: In one sentence, if there are GPUs that torch does not see, or fewer than
            processes.
    """
    problem = unused_gpu() or too_many(processes)
    if problem:
        raise MachineError(problem)


if __name__ == '__main__':
    try:
        require(int(sys.argv[1]))
    except MachineError as error:
        sys.exit(f'devices: {error}')
