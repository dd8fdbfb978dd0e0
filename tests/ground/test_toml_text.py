"""TOML of an agent is parsed in a time that grows only with its length."""

import time

import pytest

from factory.ground.toml_text import parsed


def test_a_usual_text_is_parsed() -> None:
    assert parsed('[tool.a]\n"b.c" = 1.5\n') == {"tool": {"a": {"b.c": 1.5}}}


@pytest.mark.parametrize("text", ["a." * 500_000 + "a = 1", ("a." * 2_000 + "a = 1\n") * 200])
def test_a_key_with_very_many_dots_is_refused_at_once(text: str) -> None:
    began = time.process_time()

    with pytest.raises(ValueError, match="too many dots"):
        parsed(text)

    assert time.process_time() - began < 1
