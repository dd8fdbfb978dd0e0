"""The only importer of watchdog: reports that something changed in a folder.

Invariant: it is only a hint. The woken loop looks for itself, and looks every 30 s anyway.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from watchdog import events
from watchdog.observers import Observer

if sys.platform == "linux":
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

# Not that a reader opens or closes: a scan reads, and would wake itself for ever.
CHANGES: list[type[events.FileSystemEvent]] = [
    events.FileCreatedEvent,
    events.FileModifiedEvent,
    events.FileClosedEvent,
    events.FileMovedEvent,
    events.FileDeletedEvent,
    events.DirDeletedEvent,
]
JOIN_SECONDS = 5.0  # a file system that does not answer must not keep the daemon


class Watch:
    """Calls `wake` on the event loop, once for however many changes came before it ran."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending = False
        self._observer = Observer()

    def folder(self, path: Path, wanted: Callable[[str], bool]) -> str:
        """Watch the files of a folder whose names are wanted; return why that fails, or nothing."""
        try:
            self._observer.schedule(
                _Changes(wanted, self._changed), str(path), event_filter=CHANGES
            )
        except OSError as error:
            return f"{path} is not watched ({error.strerror}): it is looked at every 30 s instead"
        return ""

    def start(self) -> None:
        """Begin; call it on the event loop, before `folder`, which says what fails."""
        if sys.platform == "linux":
            # watchdog holds a rename out of a folder, and all that follows, back for half a second,
            # to pair it; the intake renames each file that it takes out of the inbox. No argument
            # of an observer sets this, so pyproject.toml names the versions with this attribute.
            InotifyMoveEventGrouper.delay = 0
        self._loop = asyncio.get_running_loop()
        self._observer.start()

    def stop(self) -> None:
        """End the watching threads."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join(JOIN_SECONDS)

    def _changed(self) -> None:
        if self._loop and not self._pending:
            self._pending = True
            self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        self._pending = False
        self._wake()


class _Changes(events.FileSystemEventHandler):
    def __init__(self, wanted: Callable[[str], bool], changed: Callable[[], None]) -> None:
        self._wanted = wanted
        self._changed = changed

    def on_any_event(self, event: events.FileSystemEvent) -> None:
        for path in (event.src_path, event.dest_path):
            if path and self._wanted(Path(str(path)).name):
                self._changed()
                return
