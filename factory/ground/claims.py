"""Finds scopes that could overlap, in a list of scopes that units have claimed.

Invariant: if two scopes cover the same path, `Claims` finds that; if unsure, they overlap. Only the
beginnings and ends of globs are compared. What must not live here: an import that `factory status`
does not need.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from functools import lru_cache

SHORT = 256  # characters; only the ends of globs up to this length are cached
WILD = "*?["


class Claims:
    """Scopes by their owners."""

    def __init__(self) -> None:
        # The ends and owners of globs, by the beginning of the glob.
        self._by_begin: dict[str, dict[str, str]] = {}
        self._begins: list[str] = []  # sorted, so that equal prefixes are neighbours

    def add(self, owner: str, globs: Iterable[str]) -> None:
        """Claim the paths that the globs cover."""
        for glob in globs:
            begin, end = ends(glob)
            if begin not in self._by_begin:
                self._by_begin[begin] = {}
                insort(self._begins, begin)
            self._by_begin[begin].setdefault(end, owner)

    def owner(self, globs: Iterable[str]) -> str:
        """Return the owner of a claim that could cover a path of the globs; "" if there is none."""
        for glob in globs:
            begin, end = ends(glob)
            for claimed in self._related(begin):
                for other, owner in self._by_begin[claimed].items():
                    if end.endswith(other) or other.endswith(end):
                        return owner
        return ""

    def _related(self, begin: str) -> Iterator[str]:
        """Yield the claimed beginnings that are a prefix of `begin`, or that start with it."""
        for length in range(len(begin)):
            if begin[:length] in self._by_begin:
                yield begin[:length]
        for place in range(bisect_left(self._begins, begin), len(self._begins)):
            if not self._begins[place].startswith(begin):
                return
            yield self._begins[place]


def segments(glob: str) -> list[str]:
    """Return the glob's folders and last name, without a trailing `**`, which adds nothing."""
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    if "/" not in glob.rstrip("/") and _wild_at(glob) < len(glob):
        parts.insert(0, "**")
    while parts and parts[-1] == "**":
        parts.pop()
    return parts


def ends(glob: str) -> tuple[str, str]:
    """Return the common beginning and end of all paths that the glob covers."""
    return _cached_ends(glob) if len(glob) <= SHORT else _ends(glob)


def _ends(glob: str) -> tuple[str, str]:
    parts = segments(glob)
    # A last name without a suffix may be the name of a folder.
    name = parts[-1] if parts else ""
    has_suffix = 0 < name.rfind(".") < len(name) - 1
    if not has_suffix or glob.endswith(("/", "**")):
        parts.append("**")
    whole = "/".join(parts)
    last = max(whole.rfind(sign) for sign in "*?]")
    return whole[: _wild_at(whole)], whole[last + 1 :]


_cached_ends = lru_cache(maxsize=4096)(_ends)  # at most 2 MB, because the globs are short


def _wild_at(text: str) -> int:
    """Return the place of the first wildcard, or the length of the text."""
    found = [text.find(sign) for sign in WILD]
    return min((place for place in found if place >= 0), default=len(text))
