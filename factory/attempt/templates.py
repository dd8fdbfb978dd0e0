"""Templates: Jinja2, strict and confined. Only this module imports Jinja2.

Invariant: a template reads only the values that it gets; it runs no code and writes nothing.
"""

import traceback
from collections.abc import Mapping

from jinja2 import (
    FunctionLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from factory.ground.conventions import Convention
from factory.ground.errors import ConfigError

_FAILURES = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def render(
    template: str, *, where: str, includes: Mapping[str, Convention] | None = None, **values: object
) -> str:
    """Fill in one template; `includes` are what it may `{% include %}`.

    Raises ConfigError, which names file and line.
    """
    files = {**(includes or {}), where: Convention(template, where)}

    def load(name: str) -> tuple[str, str, None] | None:
        file = files.get(name)
        return (file.text, file.where, None) if file else None

    environment = ImmutableSandboxedEnvironment(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        autoescape=False,  # prompts are text, not HTML
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    try:
        return environment.get_template(where).render(**values)
    except _FAILURES as error:
        templates = {file.where for file in files.values()}
        place = where
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename in templates:
                place = f"{frame.filename}, line {frame.lineno}"
        if isinstance(error, TemplateSyntaxError):
            place = f"{error.filename}, line {error.lineno}"
        reason = (str(error) or type(error).__name__).rstrip(".")
        if isinstance(error, TemplateNotFound):
            reason = f"there is no {error.name} in conventions/prompts to include"
        raise ConfigError(
            f"{place}: {reason}. A prompt is a Jinja2 template; see conventions/README.md."
        ) from error
