"""What setup builds in the tree is built from the tree that is judged; what it installs is installed once.

Each unit here changes src/, and its gate looks at what was built from that: trunk's build would be a false green.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from factory.inference.infer import rules_of
from factory.inference.rules import Gate, Rules
from factory.judging.gates import Answer, Judgement
from factory.judging.setups import SetupFailed
from tests.judging.test_gates import Court, gate

SETUP = "conventions/workspace/setup.sh"
BUILD = """\
test "$1" = build || echo x >> {folder}/installed
echo x >> {folder}/ran
test ! -e src/broken
mkdir -p dist node_modules
cp src/app.txt dist/
test ! -e src/poison.sh || sh src/poison.sh
"""


@pytest.fixture
def court(tmp_path: Path) -> Court:
    made = Court(tmp_path)
    made.change({".gitignore": "dist/\nnode_modules\n", "src/app.txt": "good\n"})
    return made


def building(court: Court, head: str = "", *, script: str = BUILD, judge: str = "") -> Rules:
    """A setup.sh that makes dist/, and a gate that looks at it."""
    text = f"set -e\n# inputs: deps.txt\n{head}{script.format(folder=court.folder)}"
    on_dist = gate(judge or "grep -q good dist/app.txt\n")
    return Rules(gates=(on_dist,), setup=rules_of([SETUP], {SETUP: text}).setup)


def said(judgement: Judgement) -> str:
    """The end of the output of what is red, or of the setup that failed."""
    failed = judgement.failed or SetupFailed(sentence="")
    return failed.sentence + failed.tail + "".join(verdict.tail for verdict in judgement.red)


# ── from each tree ──


@pytest.mark.parametrize("head", ["# keeps: dist\n", ""], ids=["declared", "found"])
async def test_a_candidate_that_breaks_the_sources_is_judged_by_its_own_build(
    court: Court, head: str
) -> None:
    rules = building(court, head)
    good = await court.judge(rules)
    court.change({"src/app.txt": "bad\n"})

    bad = await court.judge(rules, trunk="HEAD~1")

    assert good.answer is Answer.GREEN, said(good)
    assert [verdict.gate for verdict in bad.red] == ["10-test"]
    assert (court.count("installed"), court.count()) == (1, 2)


async def test_what_setup_builds_is_still_there_in_each_group_as_it_was_built(court: Court) -> None:
    rules = building(court)
    wreck = gate("echo bad > dist/app.txt; rm -rf dist/app.txt; touch dist/more\n", "05-wreck")
    look = gate('test $(ls dist) = app.txt && test -z "$(git status --porcelain)"\n', "20-look")
    both = Rules(gates=(wreck, *rules.gates, look), setup=rules.setup)
    await court.judge(both)
    court.change({"src/app.txt": "good too\n"})

    judgement = await court.judge(both, trunk="HEAD~1")

    assert judgement.answer is Answer.GREEN, said(judgement)
    assert court.count() == 2


async def test_a_build_serves_its_tree_as_often_as_it_is_judged_and_no_other_tree(
    court: Court,
) -> None:
    rules = building(court)
    later = Rules(
        gates=(*rules.gates, gate("grep -q good dist/app.txt\n", "20-more")), setup=rules.setup
    )
    court.change({"src/app.txt": "good too\n"})
    await court.judge(rules, trunk="HEAD~1")
    await court.judge(later, trunk="HEAD~1")
    once = court.count()

    await court.judge(rules, rev="HEAD~1", trunk="HEAD~1")

    assert (once, court.count(), court.count("installed")) == (2, 3, 1)


async def test_a_candidate_whose_build_fails_has_no_environment_and_the_next_one_does(
    court: Court,
) -> None:
    rules = building(court)
    await court.judge(rules)
    court.change({"src/broken": ""})
    broken = await court.judge(rules, trunk="HEAD~1")
    court.change({"src/app.txt": "good too\n"})
    court.change({"src/app.txt": "good\n"})

    good = await court.judge(rules, rev="HEAD~3", trunk="HEAD~3")

    assert broken.answer is Answer.SETUP
    assert "ended with exit code 1" in said(broken)
    assert good.answer is Answer.GREEN, said(good)


async def test_a_script_that_cannot_run_on_its_own_result_runs_from_nothing(court: Court) -> None:
    script = "mkdir node_modules dist\ncp src/app.txt dist/\necho x >> {folder}/ran\n"
    rules = building(court, script=script)
    await court.judge(rules)
    court.change({"src/app.txt": "bad\n"})

    bad = await court.judge(rules, trunk="HEAD~1")

    assert [verdict.gate for verdict in bad.red] == ["10-test"]
    assert court.count() == 2


async def test_what_git_does_not_ignore_is_no_part_of_a_build(court: Court) -> None:
    rules = building(
        court, script="mkdir dist\ncp src/app.txt dist/\ntouch litter\n", judge="test ! -e litter\n"
    )

    assert (await court.judge(rules)).answer is Answer.GREEN


# ── made from what it names ──


async def test_a_build_that_names_its_inputs_serves_other_trees_until_one_of_them_changes(
    court: Court,
) -> None:
    rules = building(
        court, "# made-from: src/*.txt\n", judge='grep -q "$(cat src/app.txt)" dist/app.txt\n'
    )
    await court.judge(rules)
    court.change({"a.txt": "another\n"})
    same = await court.judge(rules, trunk="HEAD~1")
    ran = court.count()
    court.change({"src/app.txt": "better\n"})

    other = await court.judge(rules, trunk="HEAD~1")

    assert (same.answer, ran) == (Answer.GREEN, 1)
    assert (other.answer, court.count(), court.count("installed")) == (Answer.GREEN, 2, 1)


# ── what a candidate's build writes elsewhere ──


async def test_what_the_build_of_a_candidate_changes_in_the_dependencies_no_other_candidate_sees(
    court: Court,
) -> None:
    script = BUILD + 'test "$1" = build || echo sound > node_modules/lib\n'
    rules = building(
        court,
        script=script,
        judge="grep -q sound node_modules/lib && test ! -e node_modules/more\n",
    )
    plant = "echo poison > node_modules/lib; touch node_modules/more; chmod 0 node_modules\n"
    good = await court.judge(rules)
    court.change({"src/poison.sh": plant})
    poisoned = await court.judge(rules, trunk="HEAD~1")
    court.change({"src/poison.sh": ":\n"})

    next_one = await court.judge(rules, trunk="HEAD~2")

    assert good.answer is Answer.GREEN, said(good)
    assert poisoned.answer is Answer.RED
    assert next_one.answer is Answer.GREEN, said(next_one)
    assert court.count("installed") == 1


async def test_a_build_that_leads_out_of_the_tree_takes_nothing_with_it(court: Court) -> None:
    victim = court.folder / "victim"
    victim.mkdir()
    (victim / "mine").write_text("mine")
    rules = building(court, "# keeps: out/dist\n")
    await court.judge(rules)
    court.change({"src/poison.sh": f"ln -s {victim} out; mkdir out/dist; touch out/dist/x\n"})
    await court.judge(rules, trunk="HEAD~1")
    court.change({"src/app.txt": "bad\n"})

    judgement = await court.judge(rules, trunk="HEAD~2")

    assert judgement.answer is Answer.RED
    assert sorted(path.name for path in victim.iterdir()) == ["dist", "mine"]


@pytest.mark.parametrize(
    ("makes", "says"),
    [
        (
            "truncate -s 5G dist/sparse",
            "Setup built 5.4 GB in the tree; factoryd keeps at most 4.3 GB.",
        ),
        (
            "touch 1.built 2.built 3.built 4.built",
            "Setup built 5 separate paths in the tree; factoryd keeps at most 3.",
        ),
    ],
)
async def test_a_build_beyond_all_measure_is_neither_copied_nor_judged(
    court: Court, makes: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.judging.standing.BUILD_PATHS", 3)
    court.change({".gitignore": "dist/\n*.built\n"})

    judgement = await court.judge(building(court, script=f"mkdir dist; touch dist/x; {makes}\n"))

    assert judgement.answer is Answer.SETUP
    assert says in said(judgement)
    assert not (court.folder / "work/benches/b1/copies/build").exists()


# ── inferred ──

BACKEND = """\
import os, pathlib, subprocess, zipfile

def _wheel(folder):
    made = pathlib.Path("src/pkg/_version.py")
    made.write_text(f"text = {pathlib.Path('src/pkg/text').read_text()!r}")
    info = "pkg-1.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder, "pkg-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("pkg.pth", str(pathlib.Path("src").resolve()))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: pkg\\nVersion: 1\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "pkg-1-py3-none-any.whl"

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _wheel(wheel_directory)

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return _wheel(wheel_directory)
"""
VERSIONED = {
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    '[project]\nname = "pkg"\nversion = "1"\n',
    "backend.py": BACKEND,
    "src/pkg/__init__.py": "from pkg._version import text\n",
    "src/pkg/text": "one",
    ".gitignore": "_version.py\n__pycache__/\n",
}


async def test_a_package_that_makes_a_file_when_it_is_installed_has_its_own_for_each_tree(
    court: Court,
) -> None:
    court.change(VERSIONED)
    rules = replace(court.rules(), gates=(Gate("look", 10, LOOK),))
    good = await court.judge(rules)
    first = {path.name for path in court.folder.glob("judged/*-setup")}
    court.change({"src/pkg/text": "bad"})

    bad = await court.judge(rules, trunk="HEAD~1")

    again = {path.name for path in court.folder.glob("judged/*-setup")} - first
    assert good.answer is Answer.GREEN, said(good)
    assert bad.answer is Answer.RED, said(bad)
    assert (len(first), len(again)) == (2, 1), (
        "a venv is made once, the tree's own build for each tree"
    )
    assert [printed(each).split()[0] for each in (good, bad)] == ["one", "bad"]


LOOK = (
    "python",
    "-c",
    "import pkg; print(pkg.text, pkg.__file__, flush=True); assert pkg.text != 'bad'",
)
LINKED = """\
test "$1" = build || python3 -m venv --without-pip "$UV_PROJECT_ENVIRONMENT"
site=$(echo "$UV_PROJECT_ENVIRONMENT"/lib/python*/site-packages)
echo "$PWD/src" > "$site/pkg.pth"
echo "text = '$(cat src/pkg/text)'" > src/pkg/_version.py
"""


async def test_what_a_bench_imports_lies_in_that_bench(court: Court) -> None:
    court.change({name: text for name, text in VERSIONED.items() if name != "pyproject.toml"})
    rules = building(court, script=LINKED)
    benches, seen = court.benches(), []
    async with benches.take() as first, benches.take() as second:
        for bench in (first, second):
            one = replace(rules, gates=(Gate(f"look in {bench.name}", 10, LOOK),))
            seen.append(await court.gates.judge(court.case(bench, one)))

    path = f"{court.folder}/work/benches/{{}}/tree/src/pkg/__init__.py"
    assert [each.answer for each in seen] == [Answer.GREEN, Answer.GREEN], said(seen[0])
    assert [printed(each) for each in seen] == [
        f"one {path.format('b1')}",
        f"one {path.format('b2')}",
    ]


def printed(judgement: Judgement) -> str:
    """The first line that its only gate printed."""
    (verdict,) = judgement.verdicts
    return Path(verdict.log).read_text().splitlines()[0]


async def test_what_npm_prepares_is_prepared_from_each_tree(court: Court) -> None:
    copies = "require('fs').cpSync('src', 'dist', {recursive: true})"
    scripts = {"prepare": f'node -e "{copies}"', "test": "grep -q good dist/app.txt"}
    court.change(
        {"package.json": json.dumps({"name": "a", "version": "1.0.0", "scripts": scripts})}
    )
    rules = court.rules()
    good = await court.judge(rules)
    court.change({"src/app.txt": "bad\n"})

    bad = await court.judge(rules, trunk="HEAD~1")

    assert good.answer is Answer.GREEN, said(good)
    assert [verdict.gate for verdict in bad.red] == ["test"]


INTO_THE_VENV = """\
test "$1" = build || python3 -m venv --without-pip "$UV_PROJECT_ENVIRONMENT"
site=$(echo "$UV_PROJECT_ENVIRONMENT"/lib/python*/site-packages)
mkdir -p "$site/pkg-1.dist-info"
echo '{{"url": "file://'$PWD'", "dir_info": {{"editable": true}}}}' > "$site/pkg-1.dist-info/direct_url.json"
printf 'Metadata-Version: 2.1\\nName: pkg\\nVersion: 1\\n' > "$site/pkg-1.dist-info/METADATA"
echo "compiled.txt,," > "$site/pkg-1.dist-info/RECORD"
cp src/app.txt "$site/compiled.txt"
"""


async def test_what_an_installation_compiles_into_the_venv_is_compiled_from_each_tree(
    court: Court,
) -> None:
    judge = 'grep -q good "$VIRTUAL_ENV"/lib/python*/site-packages/compiled.txt\n'
    rules = building(court, script=INTO_THE_VENV, judge=judge)
    good = await court.judge(rules)
    court.change({"src/app.txt": "bad\n"})

    bad = await court.judge(rules, trunk="HEAD~1")

    assert good.answer is Answer.GREEN, said(good)
    assert [verdict.gate for verdict in bad.red] == ["10-test"]
