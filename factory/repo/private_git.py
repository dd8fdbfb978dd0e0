"""The private git dir of a workspace or bench, which borrows the factory repository's objects.

Invariant: Python writes all files of this git dir. No process starts, and it has no template and no
hooks.
"""

import os
import shutil
from pathlib import Path

_FOLDERS = ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info")
_CONFIG = """\
[core]
\trepositoryformatversion = {version}
\tbare = false
\tlogAllRefUpdates = true
{extensions}[user]
\tname = agent
\temail = agent@factoryd.invalid
[gc]
\tauto = 0
"""
_SHA256 = "[extensions]\n\tobjectFormat = sha256\n"
_PACKED = b"# pack-refs with: peeled fully-peeled sorted \n"


def write(target: Path, own: Path, head: str, packed_refs: bytes, excludes: str) -> None:
    """Create the git dir at `target`, with HEAD detached at `head`.

    `own`: the factory repository.
    """
    for folder in _FOLDERS:
        (target / folder).mkdir(parents=True)
    is_sha256 = len(head) == 64
    config = _CONFIG.format(version=int(is_sha256), extensions=_SHA256 if is_sha256 else "")
    (target / "config").write_text(config)
    (target / "HEAD").write_text(f"{head}\n")
    (target / "packed-refs").write_bytes(_PACKED + packed_refs)
    (target / "objects/info/alternates").write_text(f"{own.resolve() / 'objects'}\n")
    (target / "info/exclude").write_bytes(os.fsencode(excludes))
    if (own / "shallow").exists():
        shutil.copyfile(own / "shallow", target / "shallow")
