"""How a stage runs as a script: an expected error is shown as its sentence, without a traceback."""

import errno
import logging
import os
import sys
from collections.abc import Callable

from pydantic import ValidationError

from data_exchange_center.settings import Settings

NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def run_stage(main: Callable[[], None]) -> None:
    """Runs `main`; errors that name their remedy end the process with status 1 and one line on stderr.

    Expected errors are bad settings, a disk that is full or read-only, and every exception class that declares
    `is_expected = True`.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for noisy in ("elastic_transport.transport", "httpx", "feast", "onnxscript", "torch.onnx", "py4j"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        main()
    except ValidationError as error:
        for fault in error.errors():
            print(f"error: setting {'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        place = error.filename or Settings().artefacts
        print(
            f"error: {place} cannot be used: {os.strerror(error.errno).lower()}. Make room, or see to its rights, or "
            "set ARTEFACTS_DIR to another folder; what was there before is as it was.",
            file=sys.stderr,
        )
        sys.exit(1)
    except Exception as error:
        if getattr(error, "is_expected", False):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        raise
