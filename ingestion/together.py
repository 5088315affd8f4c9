"""One set of command-line options for several commands."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def with_options(build: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `build` beside its own; its first parameter takes what `build` makes of them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        taken = inspect.signature(build).parameters
        own = list(inspect.signature(command).parameters.values())[1:]
        hints = {**get_type_hints(build, include_extras=True), **get_type_hints(command, include_extras=True)}

        @functools.wraps(command)
        def both(**options: Any) -> None:
            made = build(**{name: options.pop(name) for name in taken})
            command(made, **options)

        parameters = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in (*taken.values(), *own)]
        parameters.sort(key=lambda p: p.default is not p.empty)
        both.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        both.__annotations__ = {p.name: p.annotation for p in parameters}
        return both

    return decorate
