"""AWS runtimes and storage for pyworkflow: Lambda, Lambda durable functions, DynamoDB."""
