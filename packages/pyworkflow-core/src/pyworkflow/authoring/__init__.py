"""What workflows are written with: definitions, contexts, hooks, timers, sagas."""
