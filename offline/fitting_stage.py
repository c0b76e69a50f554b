"""How a stage that fits models runs as a script: alone or on torchrun's processes, and with checkpoints."""

from collections.abc import Callable
from pathlib import Path

from data_exchange_center.artefact import Artefacts
from data_exchange_center.settings import ROOT
from data_exchange_center.stage import run_stage
from offline.checkpoints import checkpoints_of
from offline.distributed import process_group


def run_fitting_stage(main: Callable[[], None], file: str, reads: Artefacts) -> None:
    """As `run_stage`.

    Args:
        main: is run in every process; what it writes and prints, it does in the first one alone.
        file: the stage's own.
        reads: its READS.
    """
    module = ".".join(Path(file).resolve().relative_to(ROOT).with_suffix("").parts)

    def fit() -> None:
        with process_group(), checkpoints_of(module, reads):
            main()

    run_stage(fit)
