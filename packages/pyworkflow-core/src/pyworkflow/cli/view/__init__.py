"""What the command line prints: tables, timelines, words."""
