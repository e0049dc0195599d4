"""The zip of a function: the user's files, what they require, and pyworkflow itself."""
