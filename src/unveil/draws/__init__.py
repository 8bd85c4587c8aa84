"""Which positions are hidden in draw k of example i: a pure integer function, computed on the CPU."""

from unveil.draws.designs import DESIGNS, Design, nests
from unveil.draws.plan import Plan, check_design, plan

__all__ = ["DESIGNS", "Design", "Plan", "check_design", "nests", "plan"]
