"""What the Celery workers are started with."""

import kit_flows

from pyworkflow_celery import celery_app

app = celery_app()
__all__ = ["app", "kit_flows"]
