"""Which positions are hidden in draw k of example i: a pure integer function, computed on the CPU."""

from unveil.draws.plan import DESIGNS, Plan, check_design, plan

__all__ = ["DESIGNS", "Plan", "check_design", "plan"]
