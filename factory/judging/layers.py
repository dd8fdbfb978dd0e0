"""Files of an environment: takes their prints, copies them, and restores them.

Invariant: a print includes the change time (ctime), which no program can set. So a changed file
never looks unchanged, even if its size and its other times are the same.
"""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from factory.ground import disk
from factory.ground.regular import is_real
from factory.inference.rules import digest
from factory.judging.place import Place, Stamp, read_stamp, write_stamp

Print = Mapping[str, tuple[int, ...]]
_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_STAMP = "stamp.json"  # the stamp's name in a copy


# ── prints ──


def print_of(tops: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Return mode, size, times and inode of every file and folder at or below these paths."""
    found: dict[str, tuple[int, ...]] = {}
    for top in tops:
        if os.path.lexists(top):
            found[os.fspath(top)] = _standing(os.fspath(top))
        if is_real(top):
            for path in disk.below(top):
                found[path] = _standing(path)
    return found


def _standing(path: str) -> tuple[int, ...]:
    about = os.lstat(path)
    mode = about.st_mode
    if stat.S_ISDIR(mode):
        return (mode,)  # without times, because these change with the folder's content
    return (mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)


def digest_of(print_: Print) -> str:
    """Return one digest of a whole print."""
    return digest(repr(sorted(print_.items())))


def differing(before: Print, after: Print) -> list[str]:
    """Return the paths that were added, changed or removed; each folder comes before its files."""
    every = {**before, **after}
    return sorted(path for path in every if before.get(path) != after.get(path))


def size_of(print_: Print) -> int:
    """Return the sum of all file sizes in bytes. A sparse file counts with its full size."""
    size = 0
    for standing in print_.values():
        if len(standing) > 1:  # a folder's print has only a mode
            size += standing[1]
    return size


def remove_newer(tops: Iterable[Path], than: Path) -> None:
    """Delete files that are newer than the file `than`, and folders that become empty."""
    since = than.lstat().st_ctime_ns
    for top in filter(is_real, tops):
        deepest_first = reversed(list(disk.below(top, opened=True)))
        for path in map(Path, deepest_first):
            if path.lstat().st_ctime_ns > since:
                _remove_emptied(path)


def _remove_emptied(path: Path) -> None:
    """Delete a file or a link; delete a folder only if it is empty."""
    with suppress(OSError):
        if is_real(path):
            path.rmdir()
        else:
            path.unlink()


def below(top: Path, paths: Iterable[str]) -> Iterator[str]:
    """Yield those paths that equal `top` or lie in it."""
    itself, prefix = f"{top}", f"{top}/"
    for path in paths:
        if path == itself or path.startswith(prefix):
            yield path


# ── copies ──


def copy(source: Path, target: Path) -> None:
    """Make `target` a copy of a file, a link or a folder; raise OSError for an unreadable one.

    Fifos, sockets and devices are left out. The copy and the source share no data on disk, because
    a gate may write into either of them.
    """
    disk.remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    pairs = [(source, target)]
    for here, there in pairs:  # the loop itself adds pairs, because recursion could get too deep
        if is_real(here):
            disk.reopen(here)
            there.mkdir(mode=0o700)
            for name in os.listdir(here):  # noqa: PTH208  only names
                pairs.append((here / name, there / name))
        else:
            _copy_one(here, there)
    for here, there in reversed(pairs):
        _copy_mode(here, there)


def _copy_one(source: Path, target: Path) -> None:
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISREG(mode):
        shutil.copyfile(source, target)


def _copy_mode(source: Path, target: Path) -> None:
    """Copy mode and times, without the setuid, setgid and sticky bits."""
    about = source.lstat()
    if stat.S_ISLNK(about.st_mode) or not target.exists():
        return
    target.chmod(stat.S_IMODE(about.st_mode) & ~_SPECIAL)
    os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))


def put_back(state: Path, copied: Path, paths: Iterable[str]) -> None:
    """Restore these paths, which are at or below `state`; delete paths that the copy lacks."""
    for path in map(Path, sorted(paths)):
        kept = copied / path.relative_to(state)
        if is_real(kept):
            _put_back_folder(path, kept)
        elif os.path.lexists(kept):
            copy(kept, path)
        else:
            disk.remove(path)


def _put_back_folder(path: Path, kept: Path) -> None:
    """Restore only the folder itself, because `put_back` restores its content."""
    if not is_real(path):
        disk.remove(path)
        path.mkdir(parents=True)
    mode = kept.lstat().st_mode
    path.chmod(stat.S_IMODE(mode))


# ── the dependencies of a place ──


def keep_copy(place: Place, stamp: Stamp) -> None:
    """Copy the dependencies in their present state; `stamp` has the name of the copy."""
    told = place.kept / _STAMP
    told.unlink(missing_ok=True)
    disk.remove(place.kept)
    place.kept.mkdir(parents=True)
    for top in place.installed:
        if os.path.lexists(top):
            copy(top, _copy_of(place, top))
    write_stamp(told, stamp)


def _copy_of(place: Place, top: Path) -> Path:
    return place.kept / top.relative_to(place.folder)


def copy_that_serves(place: Place, asked: str) -> Stamp | None:
    """Return the stamp of the copied dependencies if these are the needed ones; otherwise None."""
    found = read_stamp(place.kept / _STAMP)
    if found is None or found.asked != asked or not place.may_use(found.candidate):
        return None
    return found


def restore(place: Place, copied: Stamp, now: Print) -> None:
    """Restore the dependencies from their copy.

    `now`: the present print of the dependencies. If only the last build changed them, restore only
    the changed files.
    """
    stamp = read_stamp(place.stamp)
    place.stamp.unlink(missing_ok=True)
    if stamp and stamp.copy == copied.copy and stamp.print == digest_of(now):
        for top in place.installed:
            put_back(top, _copy_of(place, top), below(top, stamp.touched))
        return
    for top in place.installed:
        source = _copy_of(place, top)
        if os.path.lexists(source):
            copy(source, top)
        else:
            disk.remove(top)
