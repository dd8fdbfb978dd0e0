"""Scripted agents: what each kind leaves behind when it ends, and when."""

from random import Random

from factory.agents.output import Seen
from factory.attempt.run import Run
from factory.child.process import Exit
from factory.store.records import Attempt
from tests.simulation.world import Agent, World

APPENDING = "appending"  # honest, on a file that others change too; also while all is calm
KINDS = (
    *(
        "honest",
        "honest",
        "honest",
        "red",
        "lint",
        "lazy",
        "gates",
        "outside",
        "timed out",
        "silent",
        "crashing",
    ),
    *(
        "half done",
        "chatty",
        "limited",
        "stale limit",
        "no login",
        "asking",
        "asking with default",
        "lost",
    ),
    *("unstartable", "conflicting", "own folder", "splitting", "splitting badly"),
    APPENDING,
)


def begin(world: World, run: Run, body: str, earlier: Attempt | None) -> None:
    """Start the agent that the unit's script has for this attempt; when the script is over it is honest."""
    script = next((line for line in body.splitlines() if line.startswith("script: ")), "script: ")
    kinds = [kind for kind in script.removeprefix("script: ").split(", ") if kind]
    number = run.attempt.number
    kind = kinds[number - 1] if number <= len(kinds) else "honest"
    if world.calm and kind != APPENDING:
        kind = "honest"
    agent = _agent(world, run, kind, carried=bool(earlier and earlier.tree and not run.unit.fresh))
    world.agents[str(run.run_dir)] = agent
    world.started.append((world.clock.elapsed, run.attempt.agent, str(run.run_dir)))


def _agent(world: World, run: Run, kind: str, *, carried: bool) -> Agent:
    chance, now = world.chance, world.clock.wall()
    files = dict(world.commits[run.attempt.base].files)
    agent = Agent(
        ends=world.clock.elapsed + chance.choice([1.0, 20.0, 200.0]),
        exit=Exit(cause="exited", code=0, at=now),
        seen=Seen(first=now, last=now, done=True, result="I did it"),
        files=files,
        done="did it",
    )
    _work(files, run, chance, kind, carried=carried)
    _end(agent, world, kind)
    return agent


def _work(files: dict[str, str], run: Run, chance: Random, kind: str, *, carried: bool) -> None:
    unit = run.unit.id
    own = f"{run.unit.scope[0].rstrip('*')}{unit}.txt" if run.unit.scope else f"{unit}.txt"
    quick = ("lazy", "crashing", "limited", "stale limit", "no login", "unstartable", "lost")
    if kind in quick and not carried:
        return
    words = {"red": "BROKEN", "lint": "LINT", "gates": chance.choice(["BROKEN", "fine"])}
    files[own] = f"{unit} {run.attempt.number} {words.get(kind, 'fine')}\n"
    files |= {each.removeprefix("test -e "): "proof\n" for each in run.spec.accept}
    if run.unit.title == "Repair":
        for name, text in list(files.items()):
            files[name] = text.replace("BROKEN", "mended") if name.endswith(".txt") else text
    if kind == APPENDING:
        files["shared.txt"] += f"{unit}\n"
    strays = {
        "gates": {"conventions/gates/20-test.sh": "true\n"},
        "outside": {"elsewhere.txt": unit},
        "conflicting": {"shared.txt": f"{unit} {run.attempt.number}\n"},
        "own folder": {".factory/x": unit},
    }
    files |= strays.get(kind, {})


def _end(agent: Agent, world: World, kind: str) -> None:
    now, soon = world.clock.wall(), world.clock.elapsed + 1
    failed = Exit(cause="exited", code=1, at=now)
    exits = {
        "timed out": Exit(cause="timeout", signal=15, at=now),
        "silent": Exit(cause="exited", code=0, at=now, detail="silent"),
        "lost": Exit(cause="lost", at=now, detail="its supervisor vanished"),
        "unstartable": Exit(cause="unstartable", at=now, detail="no such file"),
        **dict.fromkeys(("crashing", "half done", "limited", "stale limit", "no login"), failed),
    }
    agent.exit = exits.get(kind, agent.exit)
    agent.done = "" if kind in exits else agent.done
    ends = {"timed out": soon + 2700, "silent": soon + 480}
    agent.ends = ends.get(
        kind, soon if kind in exits and world.chance.random() < 0.7 else agent.ends
    )
    if kind.startswith("splitting"):
        last = (
            b"---\nneeds: [a, never-heard-of]\n---\nDo it.\n"
            if kind == "splitting badly"
            else b"---\nneeds: a\n---\nDo it.\n"
        )
        agent.split = {"a.md": b"Do it.\nscript: splitting\n", "b.md": last}
    if kind == APPENDING:
        agent.ends = world.clock.elapsed + world.chance.uniform(300, 330)
    agent.seen.limited = kind in ("limited", "stale limit")
    ahead = {"limited": world.chance.choice([600, 18_000]), "stale limit": -3600}
    agent.reset_in = ahead.get(kind)
    agent.seen.unauthorized = kind == "no login"
    agent.seen.result = "word " * 20_000 if kind == "chatty" else agent.seen.result
    if kind.startswith("asking"):
        default = (
            ("left", world.chance.choice([1.0, 600.0]))
            if kind == "asking with default"
            else ("", 0.0)
        )
        agent.question = ("left or right?", ("left", "right"), *default)
