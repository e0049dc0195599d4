"""Where runs are started, listed and controlled: boto3's Lambda API, and no SDK."""
