"""What the Celery workers of the matrix are started with."""

import matrix_flows

from pyworkflow_celery import celery_app

app = celery_app()
__all__ = ["app", "matrix_flows"]
