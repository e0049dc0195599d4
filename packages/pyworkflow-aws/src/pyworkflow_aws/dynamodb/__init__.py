"""The storage contract on one DynamoDB table.

Everything below `DynamoDBStorage` is plain blocking code, run in threads: boto3 blocks.
"""

from pyworkflow_aws.dynamodb.storage import DynamoDBStorage

__all__ = ["DynamoDBStorage"]
