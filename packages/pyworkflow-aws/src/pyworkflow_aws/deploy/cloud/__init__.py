"""The function in an AWS account: what it should be, what is there, and the calls that make one the other."""
