"""Finds in the source of workflows what breaks replay; nothing of it is imported or run."""

from pyworkflow.check.checker import Finding, Result, check
from pyworkflow.check.rules import RULES, Rule

__all__ = ["RULES", "Finding", "Result", "Rule", "check"]
