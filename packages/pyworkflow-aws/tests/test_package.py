import subprocess
import sys


def test_the_hooks_do_not_import_boto3():
    code = "import sys, pyworkflow_aws.hooks; sys.exit('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
