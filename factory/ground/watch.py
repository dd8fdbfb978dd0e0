"""Reports changes in folders. Only this module imports watchdog.

Invariant: a report is only a hint. The loop that is woken checks the folder itself. It also checks
the folder every 30 s.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from watchdog import events
from watchdog.observers import Observer

if sys.platform == "linux":
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

# Events about reading do not count. A scan reads files, so it would wake itself for ever.
CHANGES: list[type[events.FileSystemEvent]] = [
    events.FileCreatedEvent,
    events.FileModifiedEvent,
    events.FileClosedEvent,
    events.FileMovedEvent,
    events.FileDeletedEvent,
    events.DirDeletedEvent,
]
JOIN_SECONDS = 5.0  # a file system that does not answer must not block the daemon


class Watch:
    """Calls `wake` on the event loop once for all changes since the last call."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending = False
        self._observer = Observer()

    def folder(self, path: Path, wanted: Callable[[str], bool]) -> str:
        """Watch a folder for files with wanted names; return "" or the reason why that fails."""
        try:
            self._observer.schedule(
                _Changes(wanted, self._changed), str(path), event_filter=CHANGES
            )
        except OSError as error:
            return f"factoryd cannot watch {path} ({error.strerror}): it looks there every 30 s"
        return ""

    def start(self) -> None:
        """Start. Call it on the event loop and before `folder`, which reports failures."""
        if sys.platform == "linux":
            # watchdog delays a rename out of a folder, and all later events, by half a second,
            # because it waits for the other half of the rename. The intake renames each file that
            # it takes out of the inbox. No argument of an observer sets this delay, so
            # pyproject.toml requires versions with this attribute.
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
