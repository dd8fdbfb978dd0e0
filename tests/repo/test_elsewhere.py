"""What a person committed, as one change to trunk: on real git."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from factory.ground.errors import RefusedByState
from factory.repo import elsewhere
from factory.repo.git import Person
from factory.repo.trunk import Trunk
from tests.floor import Scene, scene_in
from tests.git_repo import EMAIL, PERSON, commit, git


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


def branch(scene: Scene, *messages: str, name: str = "mine") -> str:
    """A branch with a commit for each message; trunk stays checked out."""
    git(scene.root, "checkout", "-q", "-b", name, "main")
    made = ""
    for number, message in enumerate(messages):
        made = commit(scene.root, {f"{name}-{number}.txt": "fine\n"}, message)
    git(scene.root, "checkout", "-q", "main")
    return made


def trunk(scene: Scene) -> Trunk:
    return scene.floor.trunk


async def test_one_commit_keeps_its_message_and_its_author(scene: Scene) -> None:
    start = scene.head()
    made = branch(scene, "Add mine\n\nBecause of that.")

    work = await elsewhere.work_in(trunk(scene), made, title="")

    assert (work.base, work.commits, work.author) == (start, 1, Person(PERSON, EMAIL))
    assert (work.subject, work.message) == ("Add mine", "Add mine\n\nBecause of that.")
    assert work.tree == git(scene.root, "rev-parse", f"{made}^{{tree}}")


async def test_of_several_commits_the_first_names_the_work_and_all_are_quoted(
    scene: Scene,
) -> None:
    made = branch(scene, "Add mine", "Fix a typo")

    work = await elsewhere.work_in(trunk(scene), made, title="")

    assert (work.commits, work.message) == (2, "Add mine\n\n* Add mine\n\n* Fix a typo")


async def test_a_title_is_the_subject(scene: Scene) -> None:
    made = branch(scene, "wip")

    work = await elsewhere.work_in(trunk(scene), made, title="Add mine")

    assert work.message == "Add mine\n\n* wip"


async def test_a_merge_of_trunk_into_the_branch_is_no_part_of_the_work(scene: Scene) -> None:
    branch(scene, "Add mine")
    theirs = scene.commit({"theirs.txt": "fine\n"})
    git(scene.root, "checkout", "-q", "mine")
    git(scene.root, "merge", "-q", "--no-edit", "main")
    made = git(scene.root, "rev-parse", "HEAD")

    work = await elsewhere.work_in(trunk(scene), made, title="")

    assert (work.base, work.message) == (theirs, "Add mine")
    changed = git(scene.root, "diff", "--name-only", work.base, work.tree)
    assert changed == "mine-0.txt"


async def test_a_commit_that_no_ref_names_is_fetched(scene: Scene) -> None:
    made = branch(scene, "Add mine")
    git(scene.root, "branch", "-D", "mine")
    git(scene.root, "config", "uploadpack.hideRefs", "refs/heads")

    work = await elsewhere.work_in(trunk(scene), made, title="")

    assert work.subject == "Add mine"


async def test_what_trunk_has_already_is_refused(scene: Scene) -> None:
    made = branch(scene, "Add mine")
    git(scene.root, "merge", "-q", made)

    with pytest.raises(RefusedByState, match="has no change that main does not have"):
        await elsewhere.work_in(trunk(scene), made, title="")


async def test_a_change_that_trunk_has_in_another_commit_is_refused(scene: Scene) -> None:
    made = branch(scene, "Add mine")
    git(scene.root, "merge", "-q", "--squash", made)
    scene.commit({"theirs.txt": "fine\n"})

    with pytest.raises(RefusedByState, match="has no change that main does not have"):
        await elsewhere.work_in(trunk(scene), made, title="")


async def test_an_empty_commit_is_refused(scene: Scene) -> None:
    git(scene.root, "checkout", "-q", "-b", "mine")
    made = commit(scene.root, {}, "nothing")

    with pytest.raises(RefusedByState, match="has no change that main does not have"):
        await elsewhere.work_in(trunk(scene), made, title="")


async def test_an_unrelated_history_is_refused(scene: Scene) -> None:
    git(scene.root, "checkout", "-q", "--orphan", "mine")
    made = commit(scene.root, {"mine.txt": "fine\n"}, "Start")

    with pytest.raises(RefusedByState, match="no commit in common: rebase it onto main"):
        await elsewhere.work_in(trunk(scene), made, title="")


async def test_a_very_long_history_gives_a_bounded_message(scene: Scene) -> None:
    made = branch(scene, *(f"Step {number}\n\n{'why ' * 100}" for number in range(250)))

    work = await elsewhere.work_in(trunk(scene), made, title="")

    assert (work.commits, len(work.message)) == (250, elsewhere.MESSAGE_MOST)


async def test_the_work_is_kept_once_and_other_work_beside_it(scene: Scene) -> None:
    own = trunk(scene).own
    first = await elsewhere.work_in(trunk(scene), branch(scene, "Add mine"), title="")
    other = await elsewhere.work_in(trunk(scene), branch(scene, "Add that", name="other"), title="")

    kept = await elsewhere.keep(own, first, unit="mine", number=1, nonce="a-1")
    again = await elsewhere.keep(own, first, unit="mine", number=1, nonce="a-1")
    later = await elsewhere.keep(own, other, unit="mine", number=1, nonce="a-1")

    refs = git(own.git_dir, "for-each-ref", "--format=%(objectname)", "refs/factory/attempts/")
    assert kept == again
    assert set(refs.splitlines()) == {kept, later}
    assert await own.author(kept) == Person(PERSON, EMAIL)
