"""How an attempt starts: its prompt, its command line and its environment.

Invariant: the text of a task reaches the agent only in the prompt, as one argument or on stdin.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from factory.agents.runtime import environment, find, invocation, logins
from factory.attempt import homes
from factory.attempt.intents import CONFLICT_BYTES, intents
from factory.attempt.outcomes import Outcomes
from factory.attempt.prompts import Brief, prompt
from factory.attempt.run import Run, asked_for, prompt_name
from factory.child.process import Command
from factory.child.profile import Profile
from factory.child.programs import TOOLCHAINS
from factory.ground import disk, faults
from factory.ground.daemon_state import DaemonState
from factory.inbox.split import is_part
from factory.judging.environments import Environments
from factory.judging.judge import Judge
from factory.judging.machine import ports
from factory.judging.place import Place
from factory.people.clashes import clashes_of
from factory.repo.workspaces import Conflict
from factory.store.accepted import body_of
from factory.store.ports import Store
from factory.store.records import Attempt, Remark
from factory.store.unit import Unit


class Launch:
    """Builds the command that starts an attempt."""

    def __init__(
        self,
        *,
        store: Store,
        state: DaemonState,
        judge: Judge,
        environments: Environments,
        outcomes: Outcomes,
    ) -> None:
        self.environments = environments
        self._commands = environments.commands
        self._store = store
        self._state = state
        self._judge = judge
        self._outcomes = outcomes

    async def ready_home(self, run: Run, owner: str) -> None:
        """Empty HOME if another unit used it last; keep the data that its runtime keeps."""
        home = self._home_of(run)
        if home and not homes.belongs_to(home, owner):
            with faults.step("attempt.files"):
                home.mkdir(parents=True, exist_ok=True)
            homes.claim(home, "")
            await to_thread.run_sync(homes.empty, home, run.runtime.keep)
            homes.claim(home, owner)

    def command(
        self,
        run: Run,
        earlier: Attempt | None,
        *,
        carried: bool,
        conflict: Conflict | None,
        place: Place,
    ) -> Command:
        """Write the prompt, and return the command of an attempt in its prepared workspace.

        Raises ConfigError; NoMarkdown if the task's text cannot be read any more.
        """
        text = ""
        if not run.spec.run:
            text = self._prompt(run, earlier, carried=carried, conflict=conflict)
        with faults.step("attempt.files"):
            (run.run_dir / "prompt.md").write_text(text, encoding="utf-8")
            home = self._home(run)
            profile = self._profile(run, place, home)
        argv, stdin = self._invocation(run)
        env = self._variables(run, place, home)
        folders = [place.folder, run.run_dir]
        if home:
            folders.append(home)
        return Command(
            argv=argv,
            cwd=run.workspace.tree,
            env=env,
            run_dir=run.run_dir,
            stdin=stdin,
            within=self._commands.sandbox.confined(argv, env, profile),
            limits=self._commands.limits(*folders),
            seconds=60 * self._minutes(run),
            stop_signal=run.runtime.stop.signal,
            grace_s=run.runtime.stop.grace_s,
            nonce=run.attempt.nonce,
        )

    def _minutes(self, run: Run) -> float:
        """Return the minutes that the attempt may take: the reserved minutes if there are any."""
        usual = self._state.settings.limits.minutes
        return run.attempt.reserved_minutes or run.spec.minutes or usual

    def _invocation(self, run: Run) -> tuple[tuple[str, ...], Path | None]:
        if run.spec.run:  # a task's own command is not a template
            return ("sh", "-c", run.spec.run), None
        reserved = run.attempt.reserved_usd
        argv, stdin = invocation(
            run.runtime,
            run_dir=run.run_dir,
            workspace=run.workspace.tree,
            model=run.spec.model,
            session=run.attempt.session if run.attempt.resumed else "",
            budget=f"{reserved:.4f}" if reserved else "",
        )
        name, *arguments = argv
        path = self._state.environ.get("PATH", "")
        program = find(name, path=path, root=self._state.places.root)
        return (str(program or name), *arguments), stdin

    def _home_of(self, run: Run) -> Path | None:
        """Return the HOME of this worker and runtime; None if the attempt needs none."""
        if run.spec.run or not self._commands.sandbox.on:
            return None
        return homes.place(self._state.places.work, run.hook.worker, run.runtime.name)

    def _home(self, run: Run) -> Path | None:
        """Return the HOME of the attempt, after writing the files that its runtime requires."""
        home = self._home_of(run)
        if home is None:
            return None
        home.mkdir(parents=True, exist_ok=True)
        disk.reopen(home)
        for name, text in run.runtime.files.items():
            path = home / name
            _real_folders(path.parent, below=home)
            disk.remove(path)  # the last attempt may have replaced the file
            path.write_text(text, encoding="utf-8")
        return home

    def _profile(self, run: Run, place: Place, home: Path | None) -> Profile:
        base = self._commands.machine.profile(place)
        mine = (run.run_dir / "tmp", run.outbox, run.own)
        if home is None:
            return replace(base, writes=(*base.writes, *mine), reads=(run.run_dir,))
        shared = logins(run.runtime, self._state.environ, home)
        for source, seen in shared.items():
            if self._commands.sandbox.links:
                _link(source, seen, below=home)
            else:
                _real_folders(seen, below=home)
        writes = [place.tree]
        if place.venv.is_dir():
            writes.append(place.venv)
        writes += [*mine, home]
        reads = [run.run_dir, *_named_in(run.runtime.command), *self._files(run)]
        return Profile(
            writes=tuple(writes),
            reads=tuple(reads),
            shared=shared,
            network=run.runtime.network == "open",
        )

    def _files(self, run: Run) -> Iterator[Path]:
        """Return files of the user that variables of this runtime name, such as certificates."""
        for name in environment(run.runtime, self._state.environ, {}).keys() - {"PATH"}:
            path = Path(self._state.environ.get(name, ""))
            if path.is_absolute() and path.is_file():
                yield path

    def _variables(self, run: Run, place: Place, home: Path | None) -> Mapping[str, str]:
        own = {
            "TMPDIR": str(run.run_dir / "tmp"),
            "TMPPREFIX": str(run.run_dir / "tmp/zsh"),  # without it, zsh writes into /tmp
            "FACTORY_OUTBOX": str(run.outbox),
            "FACTORY_UNIT": run.unit.id,
            "FACTORY_ATTEMPT": str(run.attempt.number),
        }
        around = self._commands.machine.variables(place)
        if run.spec.run:
            return around | own
        # The workspace's own tools come first. Without a sandbox, the agent's login is in its
        # user's HOME.
        names = ["PATH", "VIRTUAL_ENV"]
        if home:
            names += TOOLCHAINS
            own["HOME"] = str(home)
        for name in names:
            if name in around:
                own[name] = around[name]
        own |= ports(run.hook.index)
        env = environment(run.runtime, self._state.environ, own)
        if home is None:
            return env
        # Leave out a variable that names a hidden folder of the user: sessions that the agent
        # writes there would be lost.
        seen = (*logins(run.runtime, self._state.environ, home).values(), home, run.run_dir)
        for name, value in list(env.items()):
            if self._leads_nowhere(name, value, seen):
                del env[name]
        return env

    def _leads_nowhere(self, name: str, value: str, seen: tuple[Path, ...]) -> bool:
        """Return whether a variable of the user names a folder that the sandbox hides."""
        if name in ("PATH", *TOOLCHAINS) or self._state.environ.get(name) != value:
            return False
        path = Path(value)
        if not path.is_absolute() or path.is_file() or not self._commands.sandbox.is_hidden(path):
            return False
        return not any(each.is_relative_to(path) for each in seen)

    def _prompt(
        self,
        run: Run,
        earlier: Attempt | None,
        *,
        carried: bool,
        conflict: Conflict | None,
    ) -> str:
        conventions = run.ruling.conventions
        said = self._store.select(Remark, unit=run.unit.id)
        remarks = [each for each in said if each.seq <= run.attempt.heard]
        wish = asked_for(remarks, self._store.select(Attempt, unit=run.unit.id))
        brief = Brief(
            unit=run.unit.id,
            title=run.unit.title,
            body=body_of(self._store, run.unit.id),
            outbox=str(run.outbox),
            trunk=self._judge.branch,
            attempt=run.attempt.number,
            attempts=self._outcomes.limit(run.unit),
            minutes=self._minutes(run),
            scope=run.spec.scope,
            accept=run.spec.accept,
            gates=tuple((gate.name, gate.shown) for gate in run.ruling.rules.gates),
            knowledge=tuple(
                note for note in conventions.knowledge if note.concerns(run.spec.scope)
            ),
            remarks=tuple(remarks),
            digest=earlier.digest if earlier else "",
            handoff=earlier.handoff if earlier else "",
            carried=carried and bool(earlier and earlier.tree),
            conflicts=conflict.paths if conflict else (),
            old_diff=str(conflict.diff) if conflict else "",
            intent=self._intent(run.unit, conflict) if conflict else "",
            # After a person has read the change, parts must not replace it.
            may_split=wish not in ("review", "simplify") and not is_part(self._store, run.unit.id),
            resumed=run.attempt.resumed,
        )
        name = prompt_name(run, earlier, conflict, wish)
        return prompt(name, brief, conventions.prompts)

    def _intent(self, unit: Unit, conflict: Conflict) -> str:
        """Return the messages of the commits that the work conflicts with, and their tasks."""
        clashes = clashes_of(self._store, conflict.changers)
        tasks = intents(self._store, unit, clashes, most=CONFLICT_BYTES)
        return "\n".join([conflict.intent, *tasks]).strip()


def _named_in(command: Iterable[str | Sequence[str]]) -> Iterator[Path]:
    """Return the absolute paths in a command, in which optional words form a group."""
    for part in command:
        words = (part,) if isinstance(part, str) else part
        for word in words:
            if word.startswith("/"):
                yield Path(word)


def _real_folders(path: Path, *, below: Path) -> None:
    """Create and open the folders down to `path`; delete links and files that block them."""
    if not path.is_relative_to(below):
        return
    above = [each for each in path.parents if each != below and each.is_relative_to(below)]
    for folder in (*reversed(above), path):
        if os.path.islink(folder) or (folder.exists() and not folder.is_dir()):  # noqa: PTH114
            folder.unlink()
        folder.mkdir(exist_ok=True)
        disk.reopen(folder)


def _link(
    source: Path,
    seen: Path,
    *,
    below: Path,
) -> None:
    """Make `seen` a link to `source`; replace anything else that is there."""
    real = os.path.realpath(source)  # unlike pathlib, it handles a loop of links
    if seen.is_relative_to(below) and os.path.realpath(seen) != real:
        _real_folders(seen.parent, below=below)
        disk.remove(seen)
        seen.symlink_to(real)
