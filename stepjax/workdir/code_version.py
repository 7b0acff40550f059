"""Which code runs: the package's version, the commit of its checkout, and a fingerprint of its source files."""

import functools
import hashlib
import subprocess
from pathlib import Path

import stepjax
from stepjax.workdir.fingerprints import Print

_PACKAGE = Path(stepjax.__file__).parent
_GIT_SECONDS = 10.0


@functools.cache
def code_version() -> Print:
    """`version`; `commit`, with "-dirty" where files of the checkout are changed, "" outside of one; `source`."""
    return {"version": stepjax.__version__, "commit": _commit(), "source": _source()}


def _source() -> str:
    """Of every module of the package: two checkouts with the same code are the same, whatever git says of them."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _commit() -> str:
    checkout = _PACKAGE.parent
    if not (checkout / ".git").exists():  # installed, maybe inside of another project's checkout
        return ""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def release(code: Print) -> Print:
    """The part of it that a continuation must have in common: the released version."""
    return {"version": code["version"]}


def shown(code: Print) -> str:
    """`0.1.0 (commit 1a2b3c4d5e6f-dirty)`, or with the source's fingerprint where there is no commit."""
    commit = code.get("commit") or ""
    # A checkout with changes has the same name after the next change.
    source = f"source {code.get('source', '')[:8]}"
    return f"{code['version']} ({f'commit {commit}, ' if commit else ''}{source})"
