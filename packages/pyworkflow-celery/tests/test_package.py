import subprocess
import sys


def test_the_hooks_do_not_import_celery():
    code = "import sys, pyworkflow_celery.hooks; sys.exit('celery' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
