"""Python functions as tools: their signatures and docstrings become JSON schemas, and a model's calls become calls."""

from __future__ import annotations

import inspect
import json
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifecycle.errors import LifecycleError


@dataclass(frozen=True, slots=True)
class LocalTools:
    """Functions by name, with their schemas in the form of the API."""

    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    schemas: tuple[dict[str, Any], ...] = ()

    @classmethod
    def load(cls, file: Path) -> LocalTools:
        """Every function that a Python file defines, except those whose name begins with "_".

        Runs the file. Raises LifecycleError when it fails, defines no function, or a function lacks a type hint or a
        line of its docstring.
        """
        from transformers.utils.chat_template_utils import (
            DocstringParsingException,
            TypeHintParsingException,
            get_json_schema,
        )

        name = f"tools of {file}"
        try:
            defined = runpy.run_path(str(file), run_name=name)
        except Exception as error:
            raise LifecycleError(f"cannot use the tools of {file}: {type(error).__name__}: {error}") from error
        functions = {
            key: value
            for key, value in defined.items()
            if inspect.isfunction(value) and value.__module__ == name and not key.startswith("_")
        }
        if not functions:
            raise LifecycleError(f"{file} defines no function: write one with type hints and a docstring")
        schemas = []
        for key, function in functions.items():
            try:
                schema = get_json_schema(function)
            except (DocstringParsingException, TypeHintParsingException, NameError) as error:
                raise LifecycleError(
                    f"cannot offer {key} of {file} as a tool: {error} Give it type hints, and a docstring with a line for each "
                    "argument under Args:"
                ) from None
            schema["function"] = {**schema["function"], "name": key}
            schema["function"].pop("return", None)  # no part of the API
            schemas.append(schema)
        return cls(functions, tuple(schemas))

    def call(self, name: str, arguments: str) -> str:
        """What a function returns, as text for the model; its mistakes and the model's come back as text, too."""
        if name not in self.functions:
            return f'error: there is no tool "{name}"; there are {", ".join(self.functions)}'
        function = self.functions[name]
        try:
            given = json.loads(arguments or "{}")
            bound = inspect.signature(function).bind(**given)
        except (ValueError, TypeError) as error:
            return f"error: {name} does not take these arguments: {error}"
        try:
            result = function(*bound.args, **bound.kwargs)
            return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
        except Exception as error:
            return f"error: {type(error).__name__}: {error}"
