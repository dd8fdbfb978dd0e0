"""Packages that a library loads only if they are there."""

import importlib
import sys

import pytest

from factory.ground.imports import hidden


def test_a_hidden_package_is_missing_inside_the_block_and_there_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)

    with hidden("this"), pytest.raises(ImportError):
        importlib.import_module("this")

    assert importlib.import_module("this")


def test_a_package_that_is_loaded_stays() -> None:
    with hidden("json"):
        assert importlib.import_module("json") is sys.modules["json"]
