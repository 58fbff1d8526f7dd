"""Imports what adpe_mm stands on, prints the versions, and says what to do about what is wrong.

    python tools/check_env.py

Exits with 1 if something is wrong. What only segmentation or detection needs may be missing, not
broken.
"""

import importlib
import importlib.util
import os
import platform
import runpy
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Read by its path: importing the package would stop at the first thing that is wrong.
VERSION = runpy.run_path(str(ROOT / 'adpe_mm' / 'version.py'))
LIBRARIES = {library.module: library for library in VERSION['LIBRARIES']}
OPENCV = VERSION['Library']('cv2', ('opencv-python', 'opencv-python-headless'), '0', '0', '0')
OPTIONAL = {'mmseg': 'segmentation', 'mmdet': 'detection'}

# From source: pip's cache, or a folder of wheels, may hold one with operators for another torch.
PURE_MMCV = (
    f'{VERSION["how_to_install"](LIBRARIES["mmcv"])} --force-reinstall --no-deps --no-cache-dir '
    f'--no-binary {LIBRARIES["mmcv"].distributions[0]}'
)
REINSTALL_TORCH = 'pip install --force-reinstall torch torchvision'
HEADLESS_OPENCV = (
    'pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless'
)

# A part of the error's text, and what to do. The first that occurs counts.
REMEDIES = {
    'undefined symbol': f'mmcv was compiled for another torch: {PURE_MMCV}',
    'libGL': f'OpenCV needs libGL: {HEADLESS_OPENCV} (or, on Debian, apt-get install libgl1)',
    'libgthread': f'OpenCV needs GLib: {HEADLESS_OPENCV}',
    'torchvision::nms': f'torch and torchvision are of different builds: {REINSTALL_TORCH}',
    'libcu': f"torch's CUDA libraries are incomplete: {REINSTALL_TORCH}",
    'libnv': f"torch's CUDA libraries are incomplete: {REINSTALL_TORCH}",
    'no kernel image': (
        'this torch has no kernels for a GPU as old as that, or as new: install its build for an '
        'older or newer CUDA (docs/install.md)'
    ),
    'NumPy 1.x': 'a library was built for NumPy 1: upgrade that library, or pip install "numpy<2"',
    'No space left': 'the disk is full: free some space',
}


class Problem(RuntimeError):
    """Something wrong, said in one line with what to do."""


def remedy(error: BaseException) -> str:
    """Returns one line on why an import failed and what to do.

    Args:
        error: What the import raised.
    """
    text = ' '.join(str(error).split())
    for part, advice in REMEDIES.items():
        if part in text:
            return advice
    if isinstance(error, Problem):
        return text
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.split('.')[0]
        if module in LIBRARIES:
            return f'{module} is missing: {VERSION["how_to_install"](LIBRARIES[module])}'
        return f'{module} is missing: pip install {module}'
    return f'{type(error).__name__}: {text[:300] or "no reason given"}'


def import_version(module: str) -> str:
    """Imports ``module`` and returns its version."""
    return str(importlib.import_module(module).__version__)


def devices() -> list[str]:
    """Returns the devices that torch sees: the CPU, and each GPU."""
    import torch

    return ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]


def run_ops() -> str:
    """Runs mmcv's NMS on each device.

    Returns:
        Whose operators they are.

    Raises:
        Problem: If the operator has no version for a device.
        RuntimeError: If it does not compute what it should.
    """
    import torch
    from mmcv.ops import get_compiling_cuda_version, nms

    from adpe_mm.ops import are_compiled

    compiled = are_compiled()
    for device in devices():
        if compiled and device != 'cpu' and get_compiling_cuda_version() == 'not available':
            raise Problem(f'mmcv was compiled without CUDA and there is a GPU: {PURE_MMCV}')
        # The second box overlaps the first by 90 % and scores less. The third is elsewhere.
        boxes = torch.tensor([[0, 0, 10, 10], [0, 1, 10, 10], [20, 20, 30, 30]], device=device)
        scores = torch.tensor([0.9, 0.8, 0.7], device=device)
        kept = nms(boxes.float(), scores, iou_threshold=0.5)[1]
        if kept.tolist() != [0, 2]:
            raise RuntimeError(f'nms on {device} kept the boxes {kept.tolist()} instead of [0, 2]')
    return "mmcv's, compiled" if compiled else "torchvision's"


def run_kernel(device: str) -> str:
    """Multiplies matrices on a device.

    Returns:
        What the device is.

    Raises:
        RuntimeError: If the device cannot, or computes another product than the CPU.
    """
    import torch

    a, b = torch.arange(64.0).reshape(8, 8), torch.eye(8).flip(0)
    product = (a.to(device) @ b.to(device)).cpu()
    if not torch.equal(product, a.flip(1)):
        raise RuntimeError(f'{device} multiplies matrices wrongly')
    if device == 'cpu':
        return f'{os.cpu_count()} cores'
    return f'{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}'


def see_gpu() -> str:
    """Returns the number of GPUs.

    Raises:
        Problem: If there are GPUs that torch does not see.
    """
    from adpe_mm.devices import unused_gpu

    if reason := unused_gpu():
        raise Problem(reason)
    return str(len(devices()) - 1)


def check() -> tuple[list[tuple[str, str, str]], dict[str, list[str]]]:
    """Checks the libraries, in the order in which they build on one another.

    Returns:
        Rows of (name, version, note), and for each piece of advice the names that it is about.
    """
    rows = [('python', platform.python_version(), sys.prefix)]
    problems = defaultdict(list)

    def add(name: str, function: Callable[[], str], note: str = '') -> str | None:
        try:
            version = function()
        except (Exception, SystemExit) as error:  # a library may raise anything at its import
            problems[remedy(error)].append(name)
            rows.append((name, 'BROKEN', note))
            return None
        rows.append((name, version, note))
        return version

    add('numpy', lambda: import_version('numpy'))
    add('cv2', lambda: import_version('cv2'))
    for module, library in LIBRARIES.items():
        if module in OPTIONAL and importlib.util.find_spec(module) is None:
            rows.append((module, 'none', f'only {OPTIONAL[module]} needs it'))
            continue
        found = VERSION['installed_distributions'](library)
        note = ' and '.join(f'{name} {version}' for name, version in found.items())
        version = add(module, lambda module=module: import_version(module), note)
        # torch.__version__ names the CUDA version too, as in 2.11.0+cu130.
        if version and len(found) == 1 and version.split('+')[0] not in note:
            advice = (
                f'its files are of version {version}, though {note} is installed: another package '
                f'laid its own over them: pip uninstall -y {" ".join(library.distributions)} && '
                + VERSION['how_to_install'](library)
            )
            problems[advice].append(module)
    if add('adpe_mm', lambda: import_version('adpe_mm'), str(ROOT)) and 'torch' in sys.modules:
        add('mmcv.ops', run_ops)
        add('GPUs', see_gpu)
        for device in devices():
            add(device, lambda device=device: run_kernel(device))
    return rows, problems


def main() -> int:
    """Prints what was found and returns the exit status."""
    warnings.simplefilter('ignore')  # of other libraries, at their import
    sys.path.insert(0, str(ROOT))
    rows, problems = check()
    widths = [max(len(row[i]) for row in rows if row[2]) for i in range(2)]
    for name, version, note in rows:
        print(f'  {name:{widths[0]}}  {version:{widths[1]}}  {note}'.rstrip())
    notes = VERSION['compare_versions']()[1]
    opencv = VERSION['installed_distributions'](OPENCV)
    if len(opencv) > 1:
        notes.append(f'{" and ".join(opencv)} lie over one another, keep one: {HEADLESS_OPENCV}')
    for line in notes:
        print(f'note: {line}')
    for advice, names in problems.items():
        print(f'problem with {", ".join(names)}: {advice}')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
