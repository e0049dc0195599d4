"""What a durable execution records of a run, and the replay from it.  No I/O, but for large payloads in S3."""
