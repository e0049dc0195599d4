import subprocess
import sys
from pathlib import Path

import attrs

from pyworkflow_celery.settings import CelerySettings


def test_the_hooks_do_not_import_celery():
    code = "import sys, pyworkflow_celery.hooks; sys.exit('celery' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_guide_explains_every_setting():
    guide = (Path(__file__).parents[3] / "docs" / "celery.md").read_text()
    for field in attrs.fields(CelerySettings):
        assert f"| `celery_{field.name}` |" in guide
