"""The report of `make drift`: how far what is served is from what was trained, column by column.

benchmarks/quality/drift.py writes it, and the page of operations shows it.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from data_exchange_center.dataset import Document, Measured

DRIFT_REPORT = "drift.json"  # in RUN_DIR


class ColumnDrift(Document):
    """One column of the live lists beside the same one of the reference."""

    psi: Annotated[float, Field(description="population stability index")]
    threshold: Annotated[float, Field(description="above which it is an alarm")]
    reference_mean: float
    live_mean: float

    @property
    def is_alarm(self) -> bool:
        """Whether the column has moved by more than sampling explains."""
        return self.psi > self.threshold


class DriftReport(Measured):
    """All columns by name, those farthest beyond their thresholds first."""

    measured_at: datetime
    load_digest: Annotated[str, Field(description="of the load that both samples are of")]
    reference_lists: int
    live_lists: int
    columns: dict[str, ColumnDrift]

    @property
    def alarms(self) -> dict[str, ColumnDrift]:
        """The columns that have moved."""
        return {name: column for name, column in self.columns.items() if column.is_alarm}
