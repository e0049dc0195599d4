"""What this package offers to pyworkflow; nothing yet."""
