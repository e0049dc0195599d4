"""``pyworkflow deploy``: packages workflows for AWS Lambda, and makes a function of them or brings it up to date.

`bundle` turns a folder and its requirements into a zip; `plan` holds what should be against what `account` found and
says what to do, which `deployer` does; `command` is the command line.
"""
