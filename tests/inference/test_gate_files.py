"""Gates that have a file: which are run, and which are refused."""

from dataclasses import replace

import pytest

from factory.ground.errors import ConfigError
from factory.inference.infer import rules_of
from factory.inference.rules import Gate
from tests.inference.reading import GATES, UNITTEST, of


def test_gate_files_rule_alone_in_the_order_of_their_numbers() -> None:
    found = of(
        {
            f"{GATES}20-test.toml": 'command = "make check"\ntimeout_s = 9\nflaky_reruns = 0\n',
            f"{GATES}5-lint.sh": "./lint\n",
            f"{GATES}20-types.toml": 'command = ["ty", "src"]\n',
            f"{GATES}README.md": "how these work",
            "test_a.py": UNITTEST,
        }
    )

    assert found.gates == (
        Gate(name="5-lint", group=5, script="./lint\n", reason=f"{GATES}5-lint.sh"),
        Gate(
            name="20-test",
            group=20,
            command=("sh", "-c", "make check"),
            timeout_s=9.0,
            flaky_reruns=0,
            reason=f"{GATES}20-test.toml",
        ),
        Gate(name="20-types", group=20, command=("ty", "src"), reason=f"{GATES}20-types.toml"),
    )
    assert found.gates[0].shown == f"sh {GATES}5-lint.sh"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("test.sh", "true", "NN-name.sh"),
        ("10-test.py", "pass", "NN-name.sh"),
        ("10-test.sh", "# later\n\n", "would pass everything"),
        ("10-a.sh", "# rewrites: **\ntrue", "names every file of the repository"),
        ("10-a.sh", "# rewrites: ../x\ntrue", "names files outside the repository"),
        ("10-a.toml", "# rewrites: /x\ncommand = 'x'", "names files outside the repository"),
        ("10-a.toml", "command = ", "is not TOML"),
        ("10-a.toml", 'comand = "x"', "did you mean command?"),
        ("10-a.toml", "timeout_s = 1", "the form is"),
        ("10-a.toml", "command = []", "the form is"),
        ("10-a.toml", 'command = " "', "the form is"),
        ("10-a.toml", 'command = [""]', "the form is"),
        ("10-a.toml", 'command = ["a", 1]', "the form is"),
        ("10-a.toml", 'command = "x"\ntimeout_s = true', "the form is"),
        ("10-a.toml", 'command = "x"\ntimeout_s = -1', "the form is"),
        ("10-a.toml", 'command = "x"\ntimeout_s = nan', "the form is"),
        ("10-a.toml", 'command = "x"\ntimeout_s = inf', "the form is"),
        ("10-a.toml", f'command = "x"\ntimeout_s = 1{"0" * 400}', "the form is"),
        ("10-a.toml", 'command = "x"\nflaky_reruns = 11', "the form is"),
        ("10-a.toml", f"command = {'[' * 5000}", "is not TOML"),
        ("10-a.toml", 'command = "x"\nflaky_reruns = 1.5', "the form is"),
    ],
)
def test_a_wrong_gate_file_is_refused_rather_than_passed_over(
    name: str, text: str, says: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        of({GATES + name: text})

    assert str(refused.value).startswith(GATES + name)
    assert says in str(refused.value)


def test_a_gate_names_in_comments_the_files_that_it_may_change() -> None:
    script = "#!/bin/sh\n# rewrites: Cargo.lock docs/*.svg\ncargo test\n# rewrites: more.txt\n"
    table = '# rewrites: Cargo.lock\ncommand = "cargo test"\n'

    first, second = of({f"{GATES}10-a.sh": script, f"{GATES}20-b.toml": table}).gates

    assert (first.rewrites, second.rewrites) == (
        ("Cargo.lock", "docs/*.svg", "more.txt"),
        ("Cargo.lock",),
    )
    assert second.digest != replace(second, rewrites=()).digest


def test_a_wrong_file_of_the_hidden_folder_is_named_as_it_is_called() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^\.conventions/gates/test\.sh is not run: .* e\.g\. \.conventions/gates/20-",
    ):
        rules_of(
            [".conventions/gates/test.sh"], {".conventions/gates/test.sh": "true\n"}, ".conventions"
        )
