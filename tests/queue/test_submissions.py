"""Work that a person submits: one unit, one commit on trunk, the same guards, and no agent unasked."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from factory.ground.reserved import PERSON
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Request
from factory.store.unit import Unit, UnitState
from tests.floor import Scene, at, scene_in
from tests.git_repo import EMAIL, commit, git
from tests.git_repo import PERSON as ADA
from tests.journal import entries_of


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


def branch(scene: Scene, name: str, files: dict[str, str], message: str = "Add mine") -> str:
    """A branch on trunk, or on itself if it is there, with one more commit."""
    known = git(scene.root, "branch", "--list", name)
    git(scene.root, "checkout", "-q", *([name] if known else ["-b", name, "main"]))
    made = commit(scene.root, files, message)
    git(scene.root, "checkout", "-q", "main")
    return made


async def submit(scene: Scene, made: str, **more: Any) -> tuple[str, str]:
    """(state, outcome) of a request to submit a commit."""
    number = len(scene.store.select(Request)) + 1
    args = json.dumps({"commit": made, "title": ""} | more)
    request = Request(id=number, kind="submit", args=args, at=at())
    scene.store.write(Event.REQUEST_MADE, request, now=at())
    await scene.floor.requests.prepare()
    scene.floor.requests.tick(at())
    done = scene.store.get(Request, number)
    assert done is not None
    return done.state, done.outcome


def card(scene: Scene) -> Card:
    (found,) = scene.store.open(Card)
    return found


def labels(scene: Scene) -> list[str]:
    return [option.label for option in card(scene).options]


async def test_a_branch_lands_as_one_commit_of_its_author(scene: Scene) -> None:
    branch(scene, "feature/mine", {"mine.txt": "fine\n"})
    made = branch(scene, "feature/mine", {"more.txt": "fine\n"}, "More")

    outcome = await submit(scene, made, name="feature/mine")
    await scene.settle()

    said = "feature-mine: 2 commits submitted; factoryd judges and lands the change as one commit"
    assert outcome == ("done", said)
    unit = scene.unit("feature-mine")
    assert (unit.state, unit.title, unit.commit) == (UnitState.LANDED, "Add mine", scene.head())
    form = "--format=%an <%ae>|%s|%(trailers:key=Factory-Agent,valueonly,separator=)"
    assert git(scene.root, "log", "-1", form) == f"{ADA} <{EMAIL}>|Add mine|person"
    assert git(scene.root, "rev-parse", "main^") == git(scene.root, "merge-base", "main", made)
    assert scene.reasons("feature-mine") == ["submitted"]


async def test_a_title_becomes_the_subject_and_names_a_commit_without_a_branch(
    scene: Scene,
) -> None:
    made = branch(scene, "mine", {"mine.txt": "fine\n"}, "wip")

    await submit(scene, made, title="Add my file")
    await scene.settle()

    assert (scene.state_of("add-my-file"), scene.log()[0]) == ("landed", "Add my file")


async def test_red_work_is_a_card_and_no_agent_starts(scene: Scene) -> None:
    made = branch(scene, "mine", {"mine.txt": "BROKEN\n"})
    await submit(scene, made, name="mine")

    await scene.settle()

    assert (scene.state_of("mine"), scene.reasons("mine")) == ("held", ["gate_red"])
    assert card(scene).question.startswith("mine, which was submitted, does not land: ")
    assert labels(scene) == ["I submit it again", "Let an agent continue", "Cancel it"]
    assert "BROKEN" in card(scene).evidence


async def test_submitted_again_the_new_work_takes_the_place_of_the_old(scene: Scene) -> None:
    await submit(scene, branch(scene, "mine", {"mine.txt": "BROKEN\n"}), name="mine")
    await scene.settle()

    await submit(scene, branch(scene, "mine", {"mine.txt": "fine\n"}), name="mine")
    await scene.settle()

    assert (scene.state_of("mine"), scene.unit("mine").attempt) == ("landed", 2)
    assert (scene.cards(), scene.reasons("mine")) == ([], ["gate_red", "submitted"])


async def test_branches_with_names_in_other_scripts_are_units_of_their_own(scene: Scene) -> None:
    for name in ("日本語", "中文"):
        made = branch(scene, name, {f"{name}.txt": "BROKEN\n"}, f"Add {name}")
        await submit(scene, made, name=name)

    assert sorted(unit.id for unit in scene.store.select(Unit)) == ["add", "add-2"]


async def test_work_in_the_queue_is_replaced_too(scene: Scene) -> None:
    await submit(scene, branch(scene, "mine", {"mine.txt": "old\n"}), name="mine")

    await submit(scene, branch(scene, "mine", {"mine.txt": "new\n"}), name="mine")
    await scene.settle()

    assert scene.reasons("mine") == ["cancelled", "submitted"]
    assert (scene.root / "mine.txt").read_text() == "new\n"


async def test_a_landed_branch_submitted_again_is_a_new_unit(scene: Scene) -> None:
    await submit(scene, branch(scene, "mine", {"mine.txt": "fine\n"}), name="mine")
    await scene.settle()

    await submit(scene, branch(scene, "mine", {"more.txt": "fine\n"}), name="mine")
    await scene.settle()

    assert (scene.state_of("mine"), scene.state_of("mine-2")) == ("landed", "landed")
    assert git(scene.root, "show", "--name-only", "--format=", "main") == "more.txt"


async def test_a_task_with_the_name_of_the_branch_stays_as_it_is(scene: Scene) -> None:
    scene.floor.intake.hang("mine.md", "Write a poem.", at())

    await submit(scene, branch(scene, "mine", {"mine.txt": "fine\n"}), name="mine")

    assert (scene.unit("mine").title, scene.unit("mine").attempt) == ("mine", 0)
    assert scene.state_of("mine-2") == "queued"


async def test_an_agent_that_works_on_it_is_not_disturbed(scene: Scene) -> None:
    await submit(scene, branch(scene, "mine", {"mine.txt": "BROKEN\n"}), name="mine")
    await scene.settle()
    scene.floor.escalations.answer(card(scene).id, "2", now=at())
    unit = scene.unit("mine")
    assert (unit.state, unit.agent) == (UnitState.READY, "")
    scene.change("mine", state=UnitState.RUNNING, attempt=2)

    state, said = await submit(scene, branch(scene, "mine", {"mine.txt": "new\n"}), name="mine")

    assert (state, said.partition(".")[0]) == ("refused", "An agent works on mine now")


async def test_guarded_files_need_an_answer_as_in_a_change_of_an_agent(scene: Scene) -> None:
    made = branch(scene, "mine", {"conventions/gates/20-more.sh": "true\n"})
    await submit(scene, made, name="mine")

    await scene.settle()

    assert (scene.cards(), scene.state_of("mine")) == ([CardKind.GUARD], "held")
    assert labels(scene) == ["I submit it again", "Let it land", "Cancel it"]
    scene.floor.escalations.answer(card(scene).id, "2", now=at())
    await scene.settle()
    assert scene.state_of("mine") == "landed"


async def test_a_conflict_with_trunk_is_a_card(scene: Scene) -> None:
    made = branch(scene, "mine", {"story.txt": "mine\n"})
    scene.commit({"story.txt": "theirs\n"})
    await submit(scene, made, name="mine")

    await scene.settle()

    assert (scene.state_of("mine"), scene.reasons("mine")) == ("held", ["conflict"])
    assert "story.txt" in card(scene).question


async def test_a_branch_behind_trunk_is_merged_onto_it(scene: Scene) -> None:
    made = branch(scene, "mine", {"mine.txt": "fine\n"})
    tip = scene.commit({"theirs.txt": "fine\n"})

    await submit(scene, made, name="mine")
    await scene.settle()

    assert git(scene.root, "rev-parse", "main^") == tip


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("--upload-pack=evil", "'--upload-pack=evil' is not the id of a commit."),
        ("0" * 40, "git could not read the commits; nothing was submitted: "),
    ],
)
async def test_what_is_no_commit_is_refused_and_holds_up_nothing(
    scene: Scene, made: str, said: str
) -> None:
    refused = await submit(scene, made, name="mine")
    accepted = await submit(scene, branch(scene, "fine", {"fine.txt": "fine\n"}), name="fine")

    assert (refused[0], refused[1][: len(said)]) == ("refused", said)
    assert accepted[0] == "done"


async def test_later_requests_wait_until_the_commits_are_fetched(scene: Scene) -> None:
    made = branch(scene, "mine", {"mine.txt": "fine\n"})
    submits = Request(id=1, kind="submit", args=json.dumps({"commit": made}), at=at())
    cancels = Request(id=2, kind="cancel", args=json.dumps({"unit": "add-mine"}), at=at())
    for request in (submits, cancels):
        scene.store.write(Event.REQUEST_MADE, request, now=at())

    scene.floor.requests.tick(at())
    assert len(scene.store.open(Request)) == 2
    await scene.floor.requests.prepare()
    scene.floor.requests.tick(at())

    assert scene.state_of("add-mine") == "cancelled"


async def test_a_request_that_is_prepared_twice_makes_one_unit(scene: Scene) -> None:
    made = branch(scene, "mine", {"mine.txt": "fine\n"})
    request = Request(id=1, kind="submit", args=json.dumps({"commit": made}), at=at())
    scene.store.write(Event.REQUEST_MADE, request, now=at())
    await scene.floor.requests.prepare()
    scene.floor.requests._submissions._ready.clear()  # the daemon died here

    await scene.floor.requests.prepare()
    scene.floor.requests.tick(at())
    await scene.settle()

    own = scene.state.places.git
    refs = git(own, "for-each-ref", "--format=%(refname)", "refs/factory/attempts/")
    assert refs == "refs/factory/attempts/add-mine/1"
    assert scene.state_of("add-mine") == "landed"


async def test_ready_without_an_agent_it_waits_for_its_person(scene: Scene) -> None:
    await submit(scene, branch(scene, "mine", {"mine.txt": "fine\n"}), name="mine")
    scene.change("mine", state=UnitState.READY, submission="")
    await scene.queue.look_at_trunk(scene.group, at())

    scene.floor.pool.tick(scene.group, at())

    assert (scene.state_of("mine"), labels(scene)[0]) == ("held", "I submit it again")


async def test_the_journal_and_the_record_say_who_made_the_work(scene: Scene) -> None:
    await submit(scene, branch(scene, "mine", {"mine.txt": "fine\n"}), name="mine")

    (entry,) = [each for each in entries_of(scene.store) if each.event is Event.UNIT_SUBMITTED]
    attempt = scene.store.get(Attempt, "mine", 1)
    assert (entry.unit, entry.attempt, entry.detail["why"]) == ("mine", 1, "1 commit")
    assert attempt is not None
    assert (attempt.agent, attempt.summary, scene.unit("mine").agent) == (
        PERSON,
        "Add mine",
        PERSON,
    )


async def test_a_landing_is_recognized_on_trunk_by_the_author_who_submitted_it(
    scene: Scene,
) -> None:
    await submit(scene, branch(scene, "mine", {"mine.txt": "fine\n"}), name="mine")
    await scene.settle()

    (landing,) = await scene.floor.trunk.landings()

    assert (landing.unit, landing.commit) == ("mine", scene.head())
