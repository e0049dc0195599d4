"""A runtime for pyworkflow that advances runs in a pool of threads."""

from pyworkflow_threads.runtime import ThreadsRuntime

__all__ = ["ThreadsRuntime"]
