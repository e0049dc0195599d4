"""Celery runtime for pyworkflow: workflows on Celery workers, over any broker."""
