"""What it costs to have it installed and imported."""

from model import Case, Goal, Subject

CASE = Case(
    "weight",
    "importing it, and the room it takes with all it needs",
    {
        "import_ms": "import, ms",
        "memory_mb": "MB over a bare interpreter",
        "modules": "modules",
        "installed_mb": "installed, MB (no byte code)",
    },
    [
        Subject("pyworkflow-core", "core", ["weight.py", "pyworkflow"]),
        Subject("DBOS", "dbos", ["weight.py", "dbos"]),
        Subject("pyworkflow-engine", "engine", ["weight.py", "pyworkflow"]),
    ],
    [
        Goal("import: at most 80 ms", "pyworkflow-core", "import_ms", at_most=80),
        Goal("at most 30 MB of memory", "pyworkflow-core", "memory_mb", at_most=30),
        Goal("at most 5 MB installed", "pyworkflow-core", "installed_mb", at_most=5),
    ],
)
