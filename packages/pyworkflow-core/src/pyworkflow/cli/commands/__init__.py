"""The commands of ``pyworkflow``, a file each."""
