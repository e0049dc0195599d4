import os
import socket

import pytest

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.bundle.contents import gather
from pyworkflow_aws.deploy.bundle.exclusions import NEEDLESS, SECRETS, Exclusions

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq98\n-----END RSA PRIVATE KEY-----\n"

CANARIES = [
    ".env",
    ".env.production",
    ".ENV",
    "conf/.env.local",
    "prod.env",
    ".envrc",
    ".git/config",
    ".git/objects/ab/cdef",
    ".gitmodules",
    ".github/workflows/ci.yml",
    ".hg/store/data",
    ".svn/entries",
    ".aws/credentials",
    ".ssh/id_ed25519",
    ".netrc",
    "_netrc",
    ".pypirc",
    ".npmrc",
    ".pgpass",
    ".docker/config.json",
    "deploy/server.pem",
    "deploy/SERVER.PEM",
    "deploy/tls.key",
    "deploy/apple.p8",
    "deploy/cert.pfx",
    "deploy/cert.p12",
    "deploy/putty.ppk",
    "deploy/store.jks",
    "keys/id_rsa",
    "keys/id_ecdsa.pub",
    "passwords.kdbx",
    "backup.gpg",
    "office.ovpn",
    "terraform.tfstate",
    "terraform.tfstate.backup",
    "prod.tfvars",
    ".terraform/modules.json",
    "kubeconfig-prod",
    "credentials.json",
    "credentials",
    "client_secret_123.json",
    "service-account-prod.json",
    "secrets.yaml",
    "secrets.toml",
    ".venv/lib/site.py",
    "venv/bin/activate",
    "lib/site-packages/thing.py",
    "node_modules/left-pad/index.js",
    "tests/test_flows.py",
    "test/data.json",
    "test_flows.py",
    "flows_test.py",
    "conftest.py",
    "__pycache__/flows.cpython-313.pyc",
    "flows.pyc",
    "shop.egg-info/PKG-INFO",
    "dist/shop-1.0.whl",
    "build/lib/flows.py",
    "old.zip",
    "workflows.db",
    "workflows.db-wal",
    "debug.log",
    "pyproject.toml",
    "requirements-dev.txt",
    "uv.lock",
    "Dockerfile",
    "Makefile",
]
SHIPPED = [
    "flows.py",
    "shop/__init__.py",
    "shop/prices.json",
    "shop/keys.py",
    "shop/environment.py",
    "templates/a.html",
]


def plant(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("canary\n")


def shipped(root, **patterns):
    return list(gather(root, Exclusions(**patterns)).files)


def left_out(root, **patterns):
    return {item.path: item.reason for item in gather(root, Exclusions(**patterns)).left_out}


def test_code_and_data_are_shipped(tmp_path):
    plant(tmp_path, *SHIPPED)
    assert shipped(tmp_path) == sorted(SHIPPED)


def test_secrets_repositories_environments_and_tests_never_are(tmp_path):
    plant(tmp_path, *CANARIES, *SHIPPED)
    assert shipped(tmp_path) == sorted(SHIPPED)


@pytest.mark.parametrize("name", CANARIES)
def test_what_stays_behind_is_told_with_the_pattern_that_it_fits(tmp_path, name):
    plant(tmp_path, name)
    [(path, reason)] = left_out(tmp_path).items()
    assert name.startswith(path.rstrip("/"))
    assert reason in {*SECRETS, *NEEDLESS}


def test_an_environment_is_known_by_what_is_in_it(tmp_path):
    plant(tmp_path, "stuff/pyvenv.cfg", "stuff/lib/x.py", "conda/conda-meta/history", "flows.py")
    assert left_out(tmp_path) == {"conda/": "a virtual environment", "stuff/": "a virtual environment"}


def test_the_user_excludes_more(tmp_path):
    plant(tmp_path, "flows.py", "notebooks/a.ipynb", "shop/big.bin", "shop/x.py")
    assert shipped(tmp_path, exclude=("notebooks", "shop/*.bin")) == ["flows.py", "shop/x.py"]


def test_the_user_includes_what_is_usually_needless(tmp_path):
    plant(tmp_path, "build/rules.json", "build/other.json", "dist/x/y.bin")
    assert shipped(tmp_path, include=("build/rules.json", "dist/*")) == ["build/rules.json", "dist/x/y.bin"]


@pytest.mark.parametrize("pattern", ["*", "**", "*.pem", "certs/*", ".*"])
def test_no_wildcard_includes_a_secret(tmp_path, pattern):
    plant(tmp_path, "certs/ca.pem", ".env")
    assert shipped(tmp_path, include=(pattern,)) == []


def test_the_exact_path_of_a_certificate_includes_it(tmp_path):
    plant(tmp_path, "certs/ca.pem", "certs/server.pem")
    assert shipped(tmp_path, include=("certs/ca.pem",)) == ["certs/ca.pem"]


@pytest.mark.parametrize(
    "text",
    [
        PEM,
        PEM.replace("RSA ", ""),
        PEM.replace("RSA", "OPENSSH"),
        PEM.replace("\n", "\\n"),
        PEM.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
        "PuTTY-User-Key-File-3: ssh-ed25519\n",
        "[default]\naws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCYzzzzzzzzzKEY\n",
    ],
)
def test_a_key_under_an_innocent_name_is_refused(tmp_path, text):
    plant(tmp_path, "flows.py")
    (tmp_path / "notes.txt").write_text(f"see below\n{text}")
    with pytest.raises(ConfigError, match=r"private key in 'notes\.txt'.*--exclude PATH"):
        gather(tmp_path, Exclusions())


def test_code_that_speaks_of_keys_is_no_key(tmp_path):
    (tmp_path / "flows.py").write_text('if text.startswith("-----BEGIN PRIVATE KEY-----"):\n    pass\n')
    assert shipped(tmp_path) == ["flows.py"]


def test_a_link_to_a_file_beside_it_is_shipped_as_a_file(tmp_path):
    plant(tmp_path, "a.txt")
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert shipped(tmp_path) == ["a.txt", "b.txt"]


def test_links_lead_nowhere_else(tmp_path):
    root = tmp_path / "root"
    plant(tmp_path, "outside/passwords.txt")
    plant(root, "flows.py", ".env", "private/.git/config", "env2/pyvenv.cfg", "env2/x.py")
    links = {
        "out.txt": tmp_path / "outside" / "passwords.txt",
        "up.txt": "../outside/passwords.txt",
        "folder": tmp_path / "outside",
        "root": "/",
        "settings.txt": ".env",
        "config.txt": "private/.git/config",
        "x.txt": "env2/x.py",
        "broken.txt": "nothing",
        "loop": "loop",
        "self": ".",
    }
    for name, goal in links.items():
        (root / name).symlink_to(goal)
    assert shipped(root) == ["flows.py"]
    assert set(links) <= set(left_out(root))


def test_names_that_do_not_unpack_everywhere_are_left_out(tmp_path):
    plant(tmp_path, "flows.py", "..\\..\\evil.py", "line\nbreak.py", "bell\a.py")
    (tmp_path / os.fsdecode(b"latin-\xff.py")).write_text("")
    assert shipped(tmp_path) == ["flows.py"]


def test_pipes_and_sockets_are_not_read(tmp_path, monkeypatch):
    plant(tmp_path, "flows.py")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert left_out(tmp_path) == {"pipe": "not a regular file", "socket": "not a regular file"}
