"""Is the feedback sound? What a file holds, and every fault in it, before a run meets the first of them."""

from unveil.inspection.feedback import Inspection, inspect_rows

__all__ = ["Inspection", "inspect_rows"]
