"""Inside the function: one invocation replays the run and executes what is due, through AWS's SDK."""
