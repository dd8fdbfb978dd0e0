"""factory.toml and the FACTORY__ variables: what is in force, from where, and every way to get it wrong."""

import json
import os
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.ground.errors import ConfigError
from factory.ground.settings import Limits, Settings, explain, flat, nested
from factory.ground.settings_file import KEYS, NOT_YET, load, template


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "factory.toml"


def refusal(file: Path, text: str = "", **env: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, env)
    return str(caught.value)


OF = ("attempt", "unit", "day")


def test_without_a_file_the_defaults_of_the_contract_are_in_force(file: Path) -> None:
    settings = load(file, {})

    assert flat(settings) == {
        "workers": 3,
        "agent": "",
        "fallback": (),
        "trunk": "",
        "limits.attempts": 3,
        "limits.minutes": 45,
        "limits.first_event_s": 60,
        "limits.silence_s": 480,
        "limits.memory_gb": 0,
        "limits.processes": 1000,
        "limits.cpu_minutes": 0,
        "limits.disk_gb": 20,
        "gates.benches": 2,
        "gates.flaky_reruns": 1,
        "gates.timeout_s": 0,
        "merge.judge": "tip",
        "merge.batch": 32,
        "merge.push": "",
        "review.wip": 4,
        "budget.attempt_usd": None,
        "budget.unit_usd": None,
        "budget.day_usd": None,
        "budget.attempt_tokens": None,
        "budget.unit_tokens": None,
        "budget.day_tokens": None,
        "budget.unit_minutes": None,
        "budget.day_minutes": None,
        "sandbox.mode": "auto",
        "env.pass": (),
        "notify.urls": (),
        "keep.days": 30,
    }
    assert settings == Settings()
    assert {source for _, source in explain(settings).values()} == {"default"}


def test_the_file_of_the_contract_with_all_its_defaults_is_accepted(file: Path) -> None:
    file.write_text(
        'workers = 3\nagent = "claude"\ntrunk = "main"\n[limits]\nattempts = 3\nminutes = 45\nfirst_event_s = 60\n'
        "silence_s = 480\n[gates]\nbenches = 2\nflaky_reruns = 1\ntimeout_s = 0\n[merge]\njudge = 'tip'\nbatch = 32\n"
        "push = ''\n[review]\nwip = 4\n[budget]\n[sandbox]\nmode = 'auto'\n[env]\npass = []\n[notify]\nurls = []\n"
    )

    settings = load(file, {})

    assert settings == Settings(agent="claude", trunk="main")


def test_each_value_is_explained_by_the_place_where_it_was_written(file: Path) -> None:
    file.write_text(
        '# mine\nworkers = 5\n\n[limits]\nattempts = 2\n"minutes" = 0.5\n[env]\npass = ["TOKEN"]\n'
    )

    explained = explain(load(file, {"FACTORY__LIMITS__ATTEMPTS": "7", "PATH": "/bin"}))

    assert {key: said for key, said in explained.items() if said[1] != "default"} == {
        "workers": (5, "factory.toml line 2"),
        "limits.attempts": (7, "FACTORY__LIMITS__ATTEMPTS"),
        "limits.minutes": (0.5, "factory.toml line 6"),
        "env.pass": (["TOKEN"], "factory.toml line 8"),
    }
    assert explained.keys() == KEYS.keys()


def test_the_environment_goes_before_the_file_key_by_key(file: Path) -> None:
    file.write_text("[limits]\nattempts = 2\nminutes = 10\n")

    settings = load(
        file,
        {
            "FACTORY__LIMITS__MINUTES": "0.25",
            "factory__workers": "5",
            "FACTORY__ENV__PASS": '["A"]',
        },
    )

    assert settings.limits == Limits(attempts=2, minutes=0.25)
    assert (settings.workers, settings.env.passed) == (5, ("A",))


def test_only_the_environment_that_was_handed_over_counts(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "FACTORY__WORKERS", "9")
    monkeypatch.setitem(os.environ, "WORKERS", "9")

    assert load(file, {}).workers == 3


def test_a_branch_that_looks_like_a_number_is_still_a_name(file: Path) -> None:
    assert load(file, {"FACTORY__TRUNK": "007"}).trunk == "007"


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfworkers = 4\r\n")

    assert load(file, {}).workers == 4


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("wokers = 1", "factory.toml line 1: unknown key wokers: did you mean workers?"),
        (
            "\n[limits]\nminuts = 1",
            "factory.toml line 3: unknown key limits.minuts: did you mean limits.minutes?",
        ),
        ("[limit]\nminutes = 1", "factory.toml line 1: unknown key limit: did you mean limits?"),
        ("minutes = 1", "factory.toml line 1: unknown key minutes: did you mean limits.minutes?"),
        (
            "limits = 3",
            "factory.toml line 1: limits is a table; the form is: [limits] on a line of its own, and its keys below",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_its_line_and_a_did_you_mean(
    file: Path, text: str, sentence: str
) -> None:
    assert refusal(file, text) == sentence


def test_a_key_like_no_other_is_refused_without_a_guess(file: Path) -> None:
    assert refusal(file, "xyzzy = 1") == "factory.toml line 1: unknown key xyzzy"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("workers = 0", "workers"),
        ("workers = true", "workers"),
        ("workers = 2.5", "workers"),
        ("workers = 1000", "workers"),
        ("agent = 3", "agent"),
        ("trunk = '--all'", "trunk"),
        ("trunk = 'a b'", "trunk"),
        ("limits.minutes = 0", "limits.minutes"),
        ("limits = {minutes = nan}", "limits.minutes"),
        ("[limits]\nsilence_s = inf", "limits.silence_s"),
        ("[limits]\nfirst_event_s = -1", "limits.first_event_s"),
        ("[limits]\nattempts = 'many'", "limits.attempts"),
        ("[gates]\nbenches = 0", "gates.benches"),
        ("[gates]\nflaky_reruns = -1", "gates.flaky_reruns"),
        ("[gates]\ntimeout_s = -1", "gates.timeout_s"),
        ("[merge]\njudge = 'all'", "merge.judge"),
        ("[sandbox]\nmode = 'on'", "sandbox.mode"),
        ("[budget]\nunit_usd = 0", "budget.unit_usd"),
        ("[budget]\nday_tokens = 1.5", "budget.day_tokens"),
        ("[env]\npass = 'TOKEN'", "env.pass"),
        ("[limits.minutes]\nx = 1", "limits.minutes"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line_and_the_correct_form(
    file: Path, text: str, key: str
) -> None:
    said = refusal(file, text)

    assert (
        said.startswith(f"factory.toml line {len(text.splitlines())}: {key}: ")
        or "limits.minutes]" in text
    )
    assert f"; the correct form: {key.rpartition('.')[2]} = " in said


def test_everything_that_is_wrong_is_said_at_once_a_line_each(file: Path) -> None:
    said = refusal(file, "wokers = 1\n[limits]\nattempts = 0\n", FACTORY__GATES__BENCHES="none")

    assert [line.partition(":")[0] for line in said.splitlines()] == [
        "factory.toml line 3",
        "FACTORY__GATES__BENCHES",
        "factory.toml line 1",
    ]


def test_a_secret_written_in_place_of_a_name_is_not_echoed(file: Path) -> None:
    said = refusal(
        file,
        "[env]\npass = ['TOKEN=hunter2']\n[notify]\nurls = ['https://hunter2@example.invalid']",
    )

    assert "hunter2" not in said
    assert 'pass = ["NAME"] below [env]' in said


def test_a_variable_that_names_no_setting_is_refused(file: Path) -> None:
    assert refusal(file, FACTORY__WORKRES="5") == (
        "the environment variable FACTORY__WORKRES names no setting: did you mean FACTORY__WORKERS?"
    )


def test_a_list_in_a_variable_has_to_be_json(file: Path) -> None:
    assert refusal(file, FACTORY__ENV__PASS="A,B") == (
        """a list in the environment has to be written in JSON: FACTORY__ENV__PASS='["NAME"]'"""
    )


def test_a_variable_does_not_hide_that_the_file_is_wrong(file: Path) -> None:
    assert "limits is a table" in refusal(file, "limits = 3", FACTORY__LIMITS__MINUTES="1")


@pytest.mark.parametrize(
    ("text", "key"), [("agent = 'run'", "agent"), ("fallback = ['run']", "fallback")]
)
def test_the_name_of_units_with_a_command_is_no_agent(file: Path, text: str, key: str) -> None:
    assert refusal(file, text).startswith(
        f"factory.toml line 1: {key}: run is not an agent: it stands for units that"
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [("agent = 'a'\nfallback = ['b', 'a']", "a"), ("agent = 'a'\nfallback = ['b', 'c', 'b']", "b")],
)
def test_a_circle_of_agents_that_stand_in_for_each_other_is_refused(
    file: Path, text: str, name: str
) -> None:
    complaint = (
        f"factory.toml line 2: fallback: {name} would stand in for itself; name each agent once"
    )
    assert refusal(file, text) == complaint


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[merge]\njudge = 'each'", "judging every single commit (merge.judge)"),
        ("[merge]\nbatch = 8", "another size of landings (merge.batch)"),
        ("[merge]\npush = 'origin'", "landing by push (merge.push)"),
        ("[review]\nwip = 2", "another limit of waiting reviews (review.wip)"),
        ("[notify]\nurls = ['NTFY_URL']", "notifications (notify.urls)"),
    ],
)
def test_what_no_release_has_built_is_refused_with_one_sentence(
    file: Path, text: str, what: str
) -> None:
    assert refusal(file, text) == f"factory.toml line 2: not yet: {what}; leave the key out for now"


def test_a_file_that_is_not_toml_says_where(file: Path) -> None:
    assert "factory.toml is not TOML" in refusal(file, "workers =\n")
    assert "line 1" in refusal(file, "workers =\n")


def test_a_file_that_cannot_be_read_says_why(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigError, match="it has to be a text file in UTF-8"):
        load(file, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})


def test_hopelessly_nested_toml_is_refused(file: Path) -> None:
    assert "is not TOML" in refusal(file, f"workers = {'[' * 50_000}")


def test_the_template_holds_every_key_and_changes_nothing_until_edited(file: Path) -> None:
    file.write_text(template())

    assert load(file, {}) == load(file.with_name("none"), {})
    assert all(f"# {key.rpartition('.')[2]} = " in template() for key in KEYS)


def test_the_template_with_its_comment_signs_taken_off_is_valid_but_for_what_is_not_yet(
    file: Path,
) -> None:
    bare = [
        line.removeprefix("# ")
        for line in template().splitlines()[1:]
        if "(not available yet)" not in line
    ]
    file.write_text("\n".join(bare))

    said = {key for key, (_, source) in explain(load(file, {})).items() if source != "default"}

    assert said == KEYS.keys() - NOT_YET.keys()


def test_every_key_has_a_meaning() -> None:
    assert [key for key, field in KEYS.items() if not field.description] == []


@given(
    st.text(max_size=80)
    | st.sampled_from(sorted(KEYS)).flatmap(lambda key: st.text().map(f"{key} = {{}}".format))
)
def test_any_text_is_either_settings_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "factory.toml"
    file.write_bytes(text.encode(errors="surrogatepass"))

    with suppress(ConfigError):
        assert isinstance(load(file, {}), Settings)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "workers": st.integers(1, 64),
            "trunk": st.from_regex(r"\A[a-z][a-z/.]{0,9}\Z"),
            "limits": st.fixed_dictionaries({}, optional={"minutes": st.floats(0.001, 10_000)}),
            "env": st.fixed_dictionaries(
                {}, optional={"pass": st.lists(st.from_regex(r"\A[A-Z_]{1,9}\Z"))}
            ),
        },
    )
)
def test_a_valid_file_is_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, int | str | dict[str, object]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "factory.toml"
    written = {
        key if table is None else f"{table}.{key}": value
        for table, values in [(None, {k: v for k, v in wanted.items() if not isinstance(v, dict)})]
        + [(name, each) for name, each in wanted.items() if isinstance(each, dict)]
        for key, value in values.items()
    }
    file.write_text("\n".join(f"{key} = {value!r}" for key, value in written.items()))
    assert tomllib.loads(file.read_text()) == {
        name: each for name, each in wanted.items() if each != {}
    }

    chosen = load(file, {})

    explained = {
        key: value for key, (value, source) in explain(chosen).items() if source != "default"
    }
    assert explained == written
    assert nested(json.loads(json.dumps(flat(chosen))), chosen.sources) == chosen
