"""A local Lambda: handlers as AWS runs them, behind an endpoint that boto3 takes for AWS."""

from pyworkflow_aws.testing.endpoint import Endpoint
from pyworkflow_aws.testing.functions import InProcess, Sandboxed

__all__ = ["Endpoint", "InProcess", "Sandboxed"]
