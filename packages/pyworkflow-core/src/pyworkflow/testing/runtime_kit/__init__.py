"""Workflows and cases of `pyworkflow.testing.runtime`."""
