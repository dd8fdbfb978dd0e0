"""The daemon's own parts: what it remembers and says between starts, and factory.toml, taken up while it runs."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from factory import desk
from factory.assembly import hang_repair, the_repository
from factory.desk import Config, Desk, hide
from factory.ground.conventions import read_shipped
from factory.ground.errors import StoreError
from factory.ground.log import TICK_BROKE, Log, log
from factory.ground.settings import Settings
from factory.ground.settings_file import load
from factory.people import line_cards
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.records import CardKind, Fact
from tests.floor import FILES, GATE, Scene, at, scene_in
from tests.git_repo import git
from tests.journal import entries_of
from tests.locked_store import locked


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        await made.queue.look_at_trunk(made.group, at())
        yield made


@cache
def the_desk(scene: Scene) -> Desk:
    """The one of the scene."""
    return Desk(scene.floor)


async def warnings(scene: Scene) -> list[str]:
    """What status warns of after a pass."""
    await the_desk(scene).tick()
    fact = scene.store.get(Fact, "warnings")
    return list(json.loads(fact.value)) if fact else []


# ── task files ──


async def test_rejected_files_and_their_reasons_are_told_until_they_are_gone(scene: Scene) -> None:
    folder = scene.floor.intake.rejected
    folder.mkdir(parents=True)
    for number in range(22):
        (folder / f"{number:02}.md").touch()
        (folder / f"{number:02}.md.error.txt").write_text("No.\n\nline 1: bad\ncorrect form: x\n")

    assert await warnings(scene) == []
    told = value_of(scene.store, "rejected", {})
    assert (told["files"][0], len(told["files"]), told["count"]) == (
        {"file": "00.md", "why": "line 1: bad"},
        20,
        22,
    )

    for path in folder.glob("*.md"):
        path.unlink()
    await the_desk(scene).tick()
    assert value_of(scene.store, "rejected", {}) == {"files": [], "count": 0}


# ── trunk ──


async def test_trunk_is_the_branch_that_units_landed_on_whatever_is_checked_out_at_the_next_start(
    scene: Scene,
) -> None:
    git(scene.root, "switch", "-q", "-c", "elsewhere")

    remembered = await the_repository(scene.root, scene.state.environ, Settings())
    named = await the_repository(scene.root, scene.state.environ, Settings(trunk="elsewhere"))

    assert (remembered.branch, named.branch) == ("main", "elsewhere")


async def test_a_repair_unit_is_hung_whatever_the_names_in_its_title(scene: Scene) -> None:
    name = hang_repair(
        scene.floor.intake, scene.store, 'Repair "\N{ROCKET}": it\\s red', "--- a\n~~~ b\n", at()
    )

    assert scene.unit(name).title == 'Repair "\N{ROCKET}": it\\s red'
    assert scene.unit(name).priority == 0


# ── git commands that take long ──


async def test_a_git_command_that_takes_long_is_warned_of_until_it_ends(scene: Scene) -> None:
    commands = scene.floor.trunk.own.commands
    commands.tell = the_desk(scene).tell_commands

    def told() -> list[list[str]]:
        facts = [scene.store.get(Fact, name) for name in ("slow", "warnings")]
        return [json.loads(fact.value) if fact else [] for fact in facts]

    with commands.running(["add", "-A"]) as one:
        one.started(None)(4711)
        one.begun -= 12
        commands.left(one)
        said = "git add (pid 4711) has run for 12 s; the factory ends it after 60 s: git add -A"
        assert told() == [[said], [said]]

    assert told() == [[], []]


async def test_all_git_commands_of_a_daemon_are_looked_after_together(scene: Scene) -> None:
    floor = scene.floor
    commands = floor.trunk.own.commands

    gits = (
        floor.trunk.user,
        floor.workspaces._own,
        floor.benches._own,
        floor.keeper._own,
        floor.workspaces.git("w1"),
    )

    assert all(git.commands is commands for git in gits)


# ── factory.toml ──


async def here(root: Path, environ: Mapping[str, str]) -> Settings:
    """Read the settings without a child process."""
    return load(root / "factory.toml", environ)


def config_of(scene: Scene) -> Config:
    return Config(scene.floor, read=here)


async def test_a_card_about_a_bad_file_that_was_mended_while_no_daemon_ran_is_closed(
    scene: Scene,
) -> None:
    scene.floor.escalations.raise_card(line_cards.bad_config("factory.toml line 1: no"), now=at())

    await config_of(scene).tick()

    assert scene.cards() == []


async def test_an_edit_between_the_start_and_the_first_pass_is_taken_up(scene: Scene) -> None:
    (scene.root / "factory.toml").write_text("workers = 7\n")

    await config_of(scene).tick()

    assert scene.state.settings.workers == 7


@pytest.mark.parametrize("text", ["workers = 7\n", "workers = none\n"])
async def test_an_edit_that_the_store_could_not_take_is_taken_up_by_the_next_pass(
    scene: Scene, text: str
) -> None:
    config = config_of(scene)
    await config.tick()
    (scene.root / "factory.toml").write_text(text)

    with locked(scene.store), pytest.raises(StoreError, match="locked"):
        await config.tick()
    await config.tick()

    fact = scene.store.get(Fact, "config")
    assert fact is not None
    workers = json.loads(fact.value)["workers"]["value"]
    assert (workers, scene.cards()) == ((7, []) if "7" in text else (3, [CardKind.CONFIG]))


async def test_a_bad_edit_keeps_the_last_good_one_and_is_asked_about_once(scene: Scene) -> None:
    config = config_of(scene)
    (scene.root / "factory.toml").write_text("workers = 7\n")
    await config.tick()
    (scene.root / "factory.toml").write_text("workers = none\n")
    await config.tick()
    await config.tick()

    assert (scene.state.settings.workers, scene.cards()) == (7, [CardKind.CONFIG])
    assert (
        len([entry for entry in entries_of(scene.store) if entry.event is Event.CONFIG_REFUSED])
        == 1
    )

    (scene.root / "factory.toml").unlink()
    await config.tick()

    assert (scene.state.settings.workers, scene.cards()) == (3, [])


async def test_a_quiet_file_is_read_once_and_nothing_is_written(scene: Scene) -> None:
    config = config_of(scene)
    await config.tick()
    before = len(list(entries_of(scene.store)))

    await config.tick()

    assert len(list(entries_of(scene.store))) == before


async def test_a_variable_that_is_let_through_from_now_on_is_kept_out_of_the_log_from_now_on(
    scene: Scene,
) -> None:
    scene.state.environ = {**scene.state.environ, "TOKEN": "very-secret"}
    scene.floor.log = Log(scene.state.places.log)
    try:
        hide(scene.floor)
        (scene.root / "factory.toml").write_text('[env]\npass = ["TOKEN"]\n')
        await config_of(scene).tick()
        log.info(TICK_BROKE, loop="very-secret")
    finally:
        scene.floor.log.close()

    assert "very-secret" not in scene.state.places.log.read_text()


# ── the checkout's conventions ──


async def test_status_says_where_the_checkouts_conventions_are_not_trunks(scene: Scene) -> None:
    assert await warnings(scene) == []
    gate = scene.root / "conventions/gates/10-whole.sh"

    gate.write_text("true\n")
    (scene.root / "conventions/gates/20-new.sh").write_text("true\n")
    (edited,) = await warnings(scene)
    gate.unlink()
    (deleted,) = await warnings(scene)

    assert edited.startswith(
        "conventions/gates/10-whole.sh, conventions/gates/20-new.sh in your checkout"
    )
    assert deleted.startswith(
        "conventions/gates/10-whole.sh, conventions/gates/20-new.sh in your checkout"
    )
    assert "main" in edited


async def test_other_line_ends_and_files_of_editors_are_no_difference(scene: Scene) -> None:
    (scene.root / "conventions/gates/10-whole.sh").write_bytes(GATE.replace("\n", "\r\n").encode())
    (scene.root / "conventions/gates/.10-whole.sh.swp").write_text("x")

    assert await warnings(scene) == []


async def test_once_they_are_committed_there_is_nothing_to_say(scene: Scene) -> None:
    scene.commit({"conventions/gates/20-new.sh": "true\n"})
    (before,) = await warnings(scene)

    await scene.queue.look_at_trunk(scene.group, at())

    assert "20-new" in before
    assert await warnings(scene) == []


async def test_status_says_what_a_prompt_on_trunk_leaves_out_until_it_is_put_back(
    scene: Scene,
) -> None:
    scene.commit({"conventions/prompts/footer.md": "Use tabs.\n"})
    await scene.queue.look_at_trunk(scene.group, at())
    (lost,) = await warnings(scene)

    scene.commit({"conventions/prompts/footer.md": read_shipped()["prompts/footer.md"]})
    await scene.queue.look_at_trunk(scene.group, at())

    assert lost.startswith(
        "conventions/prompts/footer.md leaves out what was said so far, knowledge, gates, "
    )
    assert await warnings(scene) == []


async def test_prompts_are_looked_at_once_for_each_version_of_them(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.commit({"conventions/prompts/footer.md": "Use tabs.\n"})
    await scene.queue.look_at_trunk(scene.group, at())
    first = await warnings(scene)

    monkeypatch.setattr(desk, "left_out", lambda *_: pytest.fail("they were looked at again"))

    assert await warnings(scene) == first


async def test_a_second_folder_of_the_same_meaning_is_said_until_it_is_gone(scene: Scene) -> None:
    (scene.state.places.inbox / "a.md.swp").write_text("x")
    (scene.root / ".inbox").mkdir()
    (scene.root / ".inbox/task.md").write_text("do it")

    (said,) = await warnings(scene)
    (scene.root / ".inbox/task.md").unlink()
    (scene.state.places.inbox / "a.md.swp").unlink()
    (other,) = await warnings(scene)
    (scene.root / ".inbox").rmdir()

    assert said.startswith(
        "Both inbox/ and .inbox/ hold files in the checkout, and they are two names of one folder."
    )
    assert said.endswith("Until then inbox/ and conventions/ are in force.")
    assert other == ".inbox/ is used after factoryd restart; until then task files go into inbox/."
    assert await warnings(scene) == []


async def test_visible_conventions_that_setuptools_packages_are_said_until_they_are_renamed(
    scene: Scene,
) -> None:
    scene.commit({"pyproject.toml": '[project]\nname = "p"\nversion = "1"\n', "p/__init__.py": ""})
    await scene.queue.look_at_trunk(scene.group, at())
    said = await warnings(scene)

    git(scene.root, "mv", "conventions", ".conventions")
    scene.commit({})
    await scene.queue.look_at_trunk(scene.group, at())

    assert "Rename it: git mv conventions .conventions, and commit." in said[0]
    assert await warnings(scene) == [
        ".inbox/ is used after factoryd restart; until then task files go into inbox/."
    ]


async def test_to_look_at_the_checkouts_conventions_no_process_is_started(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warnings(scene)
    monkeypatch.setitem(os.environ, "PATH", "/nonexistent")
    monkeypatch.setattr("factory.child.process.Popen", None)
    (scene.root / "conventions/gates/10-whole.sh").write_text("true\n")

    assert len(await warnings(scene)) == 1
    assert FILES["conventions/gates/10-whole.sh"] == GATE
