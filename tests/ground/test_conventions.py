"""Conventions: trunk's files over the shipped ones."""

from pathlib import Path

import pytest

from factory.ground.conventions import Convention, Note, differing, overlay, read_own, read_shipped
from tests.git_repo import write


def test_a_file_on_trunk_overrides_the_shipped_one_of_its_name() -> None:
    shipped_files = {"prompts/unit.md": "shipped", "prompts/retry.md": "shipped too"}
    trunk = {"conventions/prompts/unit.md": "own", "src/prompts/retry.md": "not a convention"}

    conventions = overlay(trunk, shipped_files)

    assert conventions.prompts == {
        "unit.md": Convention("own", "conventions/prompts/unit.md"),
        "retry.md": Convention("shipped too", "shipped prompts/retry.md"),
    }


def test_the_folder_may_have_the_hidden_name() -> None:
    trunk = {".conventions/prompts/unit.md": "own", "conventions/prompts/retry.md": "the project's"}

    conventions = overlay(trunk, {"prompts/unit.md": "shipped"}, ".conventions")

    assert conventions.prompts == {"unit.md": Convention("own", ".conventions/prompts/unit.md")}
    assert not conventions.prompts["unit.md"].is_shipped
    assert conventions.folder == ".conventions"


@pytest.mark.parametrize(
    ("folder", "other"), [("conventions", ".conventions"), (".conventions", "conventions")]
)
def test_a_checkout_differs_in_the_folder_that_rules_and_in_what_counts_of_the_other(
    tmp_path: Path, folder: str, other: str
) -> None:
    ruling = overlay(
        {f"{folder}/gates/10-a.sh": "true\n", f"{folder}/gates/20-b.sh": "true\n"}, {}, folder
    )
    write(tmp_path, {f"{folder}/gates/10-a.sh": "true\n", f"{folder}/gates/20-b.sh": "false\n"})
    write(tmp_path, {f"{other}/gates/10-a.sh": "true\n", f"{other}/naming.md": "not ours\n"})

    assert differing(tmp_path, ruling) == sorted(
        [f"{folder}/gates/20-b.sh", f"{other}/gates/10-a.sh"]
    )


def test_a_checkouts_own_are_read_from_the_folder_that_is_ours(tmp_path: Path) -> None:
    write(
        tmp_path, {"conventions/naming.md": "the project's", ".conventions/gates/10-a.sh": "true\n"}
    )

    assert read_own(tmp_path) == ({".conventions/gates/10-a.sh": "true\n"}, ".conventions")
    assert read_own(tmp_path / "nowhere") == ({}, "conventions")


def test_the_repositorys_own_runtimes_come_first() -> None:
    conventions = overlay(
        {"conventions/runtimes/ours.toml": "o", "conventions/runtimes/claude.toml": "c"},
        {"runtimes/codex.toml": "x", "runtimes/claude.toml": "shipped", "runtimes/aider.toml": "a"},
    )

    assert list(conventions.runtimes) == ["claude", "ours", "aider", "codex"]
    assert conventions.runtimes["claude"] == Convention("c", "conventions/runtimes/claude.toml")


def test_only_files_of_the_right_kind_count() -> None:
    conventions = overlay(
        {
            "conventions/runtimes/deep/er.toml": "",
            "conventions/runtimes/notes.txt": "",
            "conventions/runtimes/.toml": "",
            "conventions/prompts/.md": "",
            "conventions/knowledge.md": "",
        },
        {},
    )

    assert (conventions.runtimes, conventions.prompts, conventions.knowledge) == ({}, {}, ())


def test_knowledge_says_which_paths_it_is_about() -> None:
    conventions = overlay(
        {
            "conventions/knowledge/z.md": "for all\n",
            "conventions/knowledge/a.md": "---\npaths: [src/billing/**, docs]\n---\nCents.\n",
            "conventions/knowledge/b.md": "---\npaths: tests\n---\nFast.\n",
        },
        {},
    )

    assert conventions.knowledge == (
        Note("a", "Cents.", ("src/billing/**", "docs")),
        Note("b", "Fast.", ("tests",)),
        Note("z", "for all"),
    )


def test_knowledge_whose_front_matter_cannot_be_read_is_for_everybody() -> None:
    texts = [
        "---\npaths: [\n---\nx",
        "---\n? [a]: b\n---\nx",
        "---\npaths: {a: b}\n---\nx",
        "---\npaths:\n---\nx",
    ]

    notes = [overlay({"conventions/knowledge/a.md": text}, {}).knowledge[0] for text in texts]

    assert [note.paths for note in notes] == [(), (), (), ()]
    assert all(note.text.endswith("x") for note in notes)


def test_a_unit_is_told_what_concerns_its_scope() -> None:
    billing = Note("billing", "Cents.", ("src/billing/**",))

    assert Note("all", "x").concerns(["docs/**"])
    assert billing.concerns([])
    assert billing.concerns(["docs/**", "src/**"])
    assert not billing.concerns(["docs/**"])


def test_prompts_have_another_key_when_one_of_them_is_another() -> None:
    def key(**texts: str) -> str:
        return overlay(
            {f"conventions/prompts/{name}.md": text for name, text in texts.items()}, {}
        ).prompts_key

    assert key(unit="a", retry="b") == key(retry="b", unit="a")
    assert len({key(), key(unit="a"), key(unit="b"), key(retry="a")}) == 4


def test_shipped_conventions_are_this_projects_own() -> None:
    files = read_shipped()

    own = Path(__file__).parents[2] / "conventions"
    assert files == read_shipped(own)
    assert {
        "prompts/unit.md",
        "prompts/retry.md",
        "prompts/conflict.md",
        "prompts/question.md",
    } <= files.keys()
    assert all(path.startswith(("prompts/", "runtimes/")) for path in files)


def test_only_prompts_and_runtimes_are_shipped(tmp_path: Path) -> None:
    for name in (
        "gates/10-lint.sh",
        "prompts/unit.md",
        "runtimes/a.toml",
        "runtimes/a.txt",
        "knowledge/k.md",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)

    assert read_shipped(tmp_path) == {
        "prompts/unit.md": "prompts/unit.md",
        "runtimes/a.toml": "runtimes/a.toml",
    }
