"""What an attempt is started with: its prompt, its command line and its environment.

Invariant: nothing of a task's text becomes part of a command line but the prompt, as one argument or on stdin.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from factory.agents.runtime import environment, find, invocation, logins
from factory.attempt import homes
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
from factory.repo.workspaces import Conflict
from factory.store.accepted import body_of
from factory.store.ports import Store
from factory.store.records import Attempt, Remark


class Launch:
    """Puts together what the shim of an attempt is told."""

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
        self._store, self._state, self._judge, self._outcomes = store, state, judge, outcomes

    async def ready_home(self, run: Run, owner: str) -> None:
        """Empty HOME, where the last one to work in it was another unit, but for what its runtime keeps."""
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
        """The command of an attempt in its prepared workspace; its prompt is written.

        Raises ConfigError; NoMarkdown where the task cannot be told any more.
        """
        text = (
            "" if run.spec.run else self._prompt(run, earlier, carried=carried, conflict=conflict)
        )
        with faults.step("attempt.files"):
            (run.run_dir / "prompt.md").write_text(text, encoding="utf-8")
            home = self._home(run)
            profile = self._profile(run, place, home)
        (argv, stdin), env = self._invocation(run), self._variables(run, place, home)
        return Command(
            argv=argv,
            cwd=run.workspace.tree,
            env=env,
            run_dir=run.run_dir,
            stdin=stdin,
            within=self._commands.sandbox.confined(argv, env, profile),
            limits=self._commands.limits(place.folder, run.run_dir, *((home,) if home else ())),
            seconds=60 * self._minutes(run),
            stop_signal=run.runtime.stop.signal,
            grace_s=run.runtime.stop.grace_s,
            nonce=run.attempt.nonce,
        )

    def _minutes(self, run: Run) -> float:
        """What it may take: what was held back for it, where minutes have a cap."""
        return (
            run.attempt.reserved_minutes or run.spec.minutes or self._state.settings.limits.minutes
        )

    def _invocation(self, run: Run) -> tuple[tuple[str, ...], Path | None]:
        if run.spec.run:  # a task's own command is no template
            return ("sh", "-c", run.spec.run), None
        argv, stdin = invocation(
            run.runtime,
            run_dir=run.run_dir,
            workspace=run.workspace.tree,
            model=run.spec.model,
            session=run.attempt.session if run.attempt.resumed else "",
            budget=f"{run.attempt.reserved_usd:.4f}" if run.attempt.reserved_usd else "",
        )
        program = find(
            argv[0], path=self._state.environ.get("PATH", ""), root=self._state.places.root
        )
        return (str(program or argv[0]), *argv[1:]), stdin

    def _home_of(self, run: Run) -> Path | None:
        """Where the HOME of this worker and runtime is; without a sandbox the user's serves."""
        if run.spec.run or not self._commands.sandbox.on:
            return None
        return homes.place(self._state.places.work, run.hook.worker, run.runtime.name)

    def _home(self, run: Run) -> Path | None:
        """Its HOME with the files that its runtime insists on."""
        home = self._home_of(run)
        if home is None:
            return None
        home.mkdir(parents=True, exist_ok=True)
        disk.reopen(home)
        for name, text in run.runtime.files.items():
            path = home / name
            _real_folders(path.parent, below=home)
            disk.remove(path)  # whatever the last attempt made of it
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
        words = [
            word
            for part in run.runtime.command
            for word in ((part,) if isinstance(part, str) else part)
        ]
        reads = (run.run_dir, *(Path(word) for word in words if word[:1] == "/"), *self._files(run))
        return Profile(
            writes=(place.tree, *((place.venv,) if place.venv.is_dir() else ()), *mine, home),
            reads=reads,
            shared=shared,
            network=run.runtime.network == "open",
        )

    def _files(self, run: Run) -> Iterator[Path]:
        """Files of the user's that the variables let through for this runtime name, such as certificates."""
        for name in environment(run.runtime, self._state.environ, {}).keys() - {"PATH"}:
            path = Path(self._state.environ.get(name, ""))
            if path.is_absolute() and path.is_file():
                yield path

    def _variables(self, run: Run, place: Place, home: Path | None) -> Mapping[str, str]:
        own = {
            "TMPDIR": str(run.run_dir / "tmp"),
            "TMPPREFIX": str(run.run_dir / "tmp/zsh"),  # zsh writes into /tmp without it
            "FACTORY_OUTBOX": str(run.outbox),
            "FACTORY_UNIT": run.unit.id,
            "FACTORY_ATTEMPT": str(run.attempt.number),
        }
        around = self._commands.machine.variables(place)
        if run.spec.run:
            return around | own
        # The workspace's own tools come first; without a sandbox the agent's login lies in its user's HOME.
        names = ("PATH", "VIRTUAL_ENV", *(TOOLCHAINS if home else ()))
        own |= {name: around[name] for name in names if name in around} | ports(run.hook.index)
        env = environment(
            run.runtime, self._state.environ, own | ({"HOME": str(home)} if home else {})
        )
        if home is None:
            return env
        # What names a folder of the user's that it does not see would send its sessions into nothing.
        seen = (*logins(run.runtime, self._state.environ, home).values(), home, run.run_dir)
        return {
            name: value for name, value in env.items() if not self._leads_nowhere(name, value, seen)
        }

    def _leads_nowhere(self, name: str, value: str, seen: tuple[Path, ...]) -> bool:
        if (
            name not in self._state.environ
            or value != self._state.environ[name]
            or name in ("PATH", *TOOLCHAINS)
        ):
            return False
        path = Path(value)
        hidden = (
            path.is_absolute() and not path.is_file() and self._commands.sandbox.is_hidden(path)
        )
        return hidden and not any(each.is_relative_to(path) for each in seen)

    def _prompt(
        self, run: Run, earlier: Attempt | None, *, carried: bool, conflict: Conflict | None
    ) -> str:
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
                note for note in run.ruling.conventions.knowledge if note.concerns(run.spec.scope)
            ),
            remarks=tuple(remarks),
            digest=earlier.digest if earlier else "",
            handoff=earlier.handoff if earlier else "",
            carried=carried and bool(earlier and earlier.tree),
            conflicts=conflict.paths if conflict else (),
            old_diff=str(conflict.diff) if conflict else "",
            intent=conflict.intent if conflict else "",
            # A change that a person has read is not to be replaced by parts.
            may_split=wish not in ("review", "simplify") and not is_part(self._store, run.unit.id),
            resumed=run.attempt.resumed,
        )
        return prompt(
            prompt_name(run, earlier, conflict, wish), brief, run.ruling.conventions.prompts
        )


def _real_folders(path: Path, *, below: Path) -> None:
    """Make and open the folders down to `path`; what an agent left in their place, a link that leads out, goes."""
    if not path.is_relative_to(below):
        return
    for folder in (
        *reversed([each for each in path.parents if each != below and each.is_relative_to(below)]),
        path,
    ):
        if os.path.islink(folder) or (folder.exists() and not folder.is_dir()):  # noqa: PTH114
            folder.unlink()
        folder.mkdir(exist_ok=True)
        disk.reopen(folder)


def _link(source: Path, seen: Path, *, below: Path) -> None:
    """Let `seen` lead to `source`, whatever lies there, unless it is in what leads there already."""
    real = os.path.realpath(source)
    if (
        seen.is_relative_to(below) and os.path.realpath(seen) != real
    ):  # which, other than pathlib, bears a loop
        _real_folders(seen.parent, below=below)
        disk.remove(seen)
        seen.symlink_to(real)
