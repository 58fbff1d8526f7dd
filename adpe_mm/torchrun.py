"""torchrun, which passes on every signal that a run hears, and says with 143 that it was stopped.

    python -m adpe_mm.torchrun --nproc_per_node=8 tools/train.py CONFIG --launcher pytorch

torchrun itself dies of SIGUSR1 and SIGUSR2, kills after 30 s whoever is still saving, and ends with
a traceback and status 1 when its processes end as they were told to.
"""

import os
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import PContext, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from adpe_mm.stopping import LAUNCHER, SIGNALS, STATUS

GRACE = int(os.environ.setdefault('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', '600'))  # seconds to save in
# A process that hears a signal takes all others with it; one dies of it that has not started yet.
ENDED = {STATUS, *(-number for number in SIGNALS)}


def lengthen_grace() -> None:
    """Let processes take their time to save; torch 2.14 reads the variable, 2.11 does not."""
    PContext.close.__defaults__ = (None, GRACE)


def pass_on_all_signals() -> None:
    """Treat as SIGTERM what torchrun does not handle by itself."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def main() -> int:
    """Run it; returns the status to exit with."""
    os.environ[LAUNCHER] = str(os.getpid())
    lengthen_grace()
    pass_on_all_signals()
    try:
        run.main()
    except SignalException:
        return STATUS
    except ChildFailedError as error:
        # One that was stopped as it started is missed by the others, which fail.
        if ENDED & {failure.exitcode for failure in error.failures.values()}:
            return STATUS
        raise
    return 0


if __name__ == '__main__':
    sys.exit(main())
