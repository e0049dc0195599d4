"""Pure: from the history of a run to what its workflow wants next."""
