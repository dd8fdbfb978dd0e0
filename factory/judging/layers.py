"""Files of an environment: how they stand, a copy of them, and how they are put back as they were.

Invariant: what is compared is the change time as well, which nobody can set: a file that was
written to is never taken for the one that was copied, whatever its size and times say.
"""

import csv
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from factory import disk
from factory.inference import digest
from factory.judging.place import Place, Stamp, read_stamp, write_stamp

Print = Mapping[str, tuple[int, ...]]
_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_LOADER = re.compile(r"editable|\.pth$", re.IGNORECASE)  # a module that only leads to the tree, by its name


# ── how they stand ──


def print_of(tops: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """How every file and folder at or below these paths stands."""
    found = dict[str, tuple[int, ...]]()
    for top in tops:
        if os.path.lexists(top):
            found[os.fspath(top)] = _standing(os.fspath(top))
        if is_real(top):
            found |= {path: _standing(path) for path in disk.below(top)}
    return found


def _standing(path: str) -> tuple[int, ...]:
    about = os.lstat(path)
    if stat.S_ISDIR(about.st_mode):
        return (about.st_mode,)  # its times change with what lies in it
    return (about.st_mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)


def digest_of(print_: Print) -> str:
    """One digest of how they all stand."""
    return digest(repr(sorted(print_.items())))


def differing(before: Print, after: Print) -> list[str]:
    """What was added, changed or removed, what lies in a folder after it."""
    paths = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    return sorted(paths)


def remove_newer(tops: Iterable[Path], than: Path) -> None:
    """Delete files that were made or changed after the file `than`, and the folders that this empties."""
    since = than.lstat().st_ctime_ns
    for top in filter(is_real, tops):
        for path in reversed(list(disk.below(top, opened=True))):
            if os.lstat(path).st_ctime_ns > since:
                _remove_emptied(Path(path))


def _remove_emptied(path: Path) -> None:
    """Delete a file or a link; a folder only where nothing is left in it."""
    with suppress(OSError):
        if is_real(path):
            path.rmdir()
        else:
            path.unlink()


def is_real(path: Path) -> bool:
    """Whether it is a folder, and no link to one."""
    return path.is_dir() and not path.is_symlink()


# ── copies ──


def copy(source: Path, target: Path) -> None:
    """Make `target` a copy of a file, a link or a whole folder; raises OSError if one cannot be read.

    Fifos, sockets and devices are left out. Nothing is shared with the source: a gate may write
    into either.
    """
    disk.remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    left = [(os.fspath(source), os.fspath(target))]
    for here, there in left:  # grows while it is walked: folders may be deeper than a stack
        mode = os.lstat(here).st_mode
        if stat.S_ISDIR(mode):
            disk.reopen(here)
            os.mkdir(there, 0o700)  # noqa: PTH102
            names = os.listdir(here)  # noqa: PTH208
            left += ((f"{here}/{name}", f"{there}/{name}") for name in names)
        else:
            _copy_one(here, there, mode)
    for here, there in reversed(left):
        _copy_mode(here, there)


def _copy_one(source: str, target: str, mode: int) -> None:
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211
    elif stat.S_ISREG(mode):
        shutil.copyfile(source, target)


def _copy_mode(source: str, target: str) -> None:
    """Mode and times, less the bits by which a program runs as somebody else."""
    about = os.lstat(source)
    if not stat.S_ISLNK(about.st_mode) and os.path.lexists(target):
        os.chmod(target, stat.S_IMODE(about.st_mode) & ~_SPECIAL)  # noqa: PTH101
        os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))


def put_back(live: Path, copied: Path, paths: Iterable[str]) -> None:
    """Make each of these paths at or below `live` what it is in the copy; what the copy lacks goes."""
    for path in sorted(paths):
        below = os.path.relpath(path, live)
        kept = copied if below == "." else copied / below
        if is_real(kept):
            _put_back_folder(Path(path), kept)
        elif os.path.lexists(kept):
            copy(kept, Path(path))
        else:
            disk.remove(path)


def _put_back_folder(path: Path, kept: Path) -> None:
    """The folder alone: what lies in it has paths of its own."""
    if not is_real(path):
        disk.remove(path)
        path.mkdir(parents=True)
    path.chmod(stat.S_IMODE(kept.lstat().st_mode))


# ── the dependencies of a place ──


def keep_copy(place: Place, stamp: Stamp) -> None:
    """Copy the dependencies as they stand; `stamp` names the copy."""
    (place.kept / "stamp.json").unlink(missing_ok=True)
    disk.remove(place.kept)
    place.kept.mkdir(parents=True)
    for number, top in enumerate(place.installed):
        if os.path.lexists(top):
            copy(top, place.kept / str(number))
    write_stamp(place.kept / "stamp.json", stamp)


def copy_that_serves(place: Place, asked: str) -> Stamp | None:
    """What the copy of the dependencies was made from, where they are what is asked for here."""
    found = read_stamp(place.kept / "stamp.json")
    serves = found and found.asked == asked and found.candidate in ("", place.candidate)
    return found if serves else None


def restore(place: Place, copied: Stamp, now: Print) -> None:
    """Make the dependencies what they are in the copy: only what the last build touched, where that is all."""
    stamp = read_stamp(place.stamp)
    known = stamp is not None and stamp.copy == copied.copy and stamp.print == digest_of(now)
    place.stamp.unlink(missing_ok=True)
    for number, top in enumerate(place.installed):
        source = place.kept / str(number)
        if known and stamp:
            put_back(top, source, below(top, stamp.touched))
        elif os.path.lexists(source):
            copy(source, top)
        else:
            disk.remove(top)


def below(top: Path, paths: Iterable[str]) -> Iterator[str]:
    """Those of the paths that are `top` or lie in it."""
    prefix = f"{top}/"
    return (path for path in paths if path == prefix[:-1] or path.startswith(prefix))


# ── what an installation built out of the tree ──


def built_into(venv: Path) -> list[str]:
    """Files in a venv that an editable installation built or copied from the tree, by its own record.

    Its metadata and the modules that lead to the tree are none, nor are the commands that only call a function.
    """
    found = []
    for info in sorted(venv.glob("lib/python*/site-packages/*.dist-info")):
        if is_editable(info):
            commands = _commands(info)
            rows = csv.reader(text_of(info / "RECORD").splitlines())
            found += [row[0] for row in rows if row and _is_built(row[0], info.name, commands)]
    return found


def is_editable(info: Path) -> bool:
    """Whether that metadata is of a package which is used from where its sources are."""
    with suppress(ValueError, TypeError, KeyError):
        return bool(json.loads(text_of(info / "direct_url.json"))["dir_info"]["editable"])
    return False


def _commands(info: Path) -> set[str]:
    return set(re.findall(r"(?m)^\s*([\w.-]+)\s*=", text_of(info / "entry_points.txt")))


def _is_built(path: str, info: str, commands: set[str]) -> bool:
    first, _, rest = path.partition("/")
    if first == "..":
        return path.rpartition("/")[2].removesuffix(".exe") not in commands
    return first not in (info, "__pycache__") and bool(rest or not _LOADER.search(first))


def text_of(path: Path) -> str:
    """The text of a file; empty if there is none."""
    with suppress(OSError):
        return path.read_text("utf-8", "replace")
    return ""
