"""`hard check`: everything that the daemon depends on, and a remedy for each fault."""

from __future__ import annotations

from hard.doctor.examine import examine, show
from hard.doctor.line import Line, Status, worst

__all__ = ["Line", "Status", "examine", "show", "worst"]
