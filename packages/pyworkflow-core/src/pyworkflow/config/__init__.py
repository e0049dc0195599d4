"""Text and values as people write them: durations, config strings, secrets that are not shown."""
