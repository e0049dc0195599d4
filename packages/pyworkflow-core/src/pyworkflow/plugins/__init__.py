"""Finding backends by name, and the settings of an application."""
