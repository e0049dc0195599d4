"""``pyworkflow deploy``: packages workflows for AWS Lambda, and creates or updates a function from them.

`bundle` turns a folder and its requirements into a zip. `cloud` compares the function with what the account holds,
plans changes and applies them. `deployment` joins the two, `report` describes them, `command` is the command
line.
"""
