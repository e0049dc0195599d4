"""Files that are not shipped: the built-in patterns, and the user's, which extend them or make exceptions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from attrs import frozen

SECRETS = (
    ".*",  # .env, .git, .ssh, .aws, .netrc, .venv: whatever is hidden
    "*.env",
    "*.pem",
    "*.key",
    "*.p8",
    "*.p12",
    "*.pfx",
    "*.ppk",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.asc",
    "*.gpg",
    "*.ovpn",
    "*.tfstate",
    "*.tfstate.*",
    "*.tfvars",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "kubeconfig*",
    "credentials",
    "credentials.json",
    "credentials.csv",
    "credentials.ini",
    "credentials.toml",
    "credentials.y*ml",
    "client_secret*.json",
    "service-account*.json",
    "service_account*.json",
    "secrets.json",
    "secrets.toml",
    "secrets.y*ml",
    "secrets.ini",
    "_netrc",
)
"""Names of files that may hold secrets; only an exact path makes an exception."""

NEEDLESS = (
    # environments
    "venv",
    "virtualenv",
    "__pypackages__",
    "site-packages",
    "node_modules",
    # tests
    "tests",
    "test",
    "test_*.py",
    "*_test.py",
    "conftest.py",
    "htmlcov",
    "coverage.xml",
    # made by building and running
    "__pycache__",
    "*.py[cod]",
    "*.egg-info",
    "*.egg",
    "*.whl",
    "*.zip",
    "*.tar",
    "*.tgz",
    "*.tar.*",
    "build",
    "dist",
    "*.db",
    "*.db-*",
    "*.sqlite*",
    "*.log",
    "*.bak",
    "*.orig",
    "*.sw[op]",
    "*~",
    # projects' own files
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "requirements*.txt",
    "constraints*.txt",
    "*.lock",
    "pylock*.toml",
    "pipfile*",
    "tox.ini",
    "noxfile.py",
    "makefile",
    "dockerfile*",
    "docker-compose*",
    "template.json",
    "samconfig.toml",
)
"""Names of files that a function does not need."""


@frozen
class Exclusions:
    """Decides which files of a folder are left out.

    A pattern without ``/`` is matched with every part of a path, one with ``/`` with the whole path and each folder
    above it. Case does not matter.

    Attributes:
        exclude: Patterns of the user, besides `SECRETS` and `NEEDLESS`.
        include: Patterns of the user, which make exceptions.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()

    def reason(self, path: str) -> str | None:
        """Return why *path*, relative and with ``/``, is left out; None: it is shipped."""
        path = path.lower()
        secret = _first(SECRETS, path)
        if secret is not None:
            return None if self.named(path) else secret
        if _first(self.include, path) is not None:
            return None
        return _first((*self.exclude, *NEEDLESS), path)

    def named(self, path: str) -> bool:
        """Whether *path* is an exception by its exact path."""
        return path.lower() in {pattern.lower() for pattern in self.include}

    def may_include_below(self, folder: str) -> bool:
        """Whether an exception could lie in *folder*, although the folder itself is left out."""
        start = f"{folder.lower()}/"
        fixed = (re.split(r"[*?\[]", pattern.lower())[0] for pattern in self.include)
        return any(text.startswith(start) or start.startswith(text) for text in fixed)


def _first(patterns: Iterable[str], path: str) -> str | None:
    parts = path.split("/")
    wholes = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    for pattern in patterns:
        wanted = pattern.lower().strip("/")
        if any(fnmatchcase(text, wanted) for text in (wholes if "/" in wanted else parts)):
            return pattern
    return None
