"""What the package itself brings: the local runtime, the memory storage, retry policies."""
