"""The models one server answers for."""

from __future__ import annotations

from collections.abc import Sequence

from lifecycle.errors import LifecycleError
from serving.application.ports import ServedModel
from serving.domain.errors import ModelNotFound


class Catalog:
    """A `ModelCatalog` of models loaded at the start. Raises LifecycleError when a name means two of them."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models = list(models)
        self._by_name: dict[str, ServedModel] = {}
        for model in self._models:
            for name in {model.name, model.version, *model.aliases}:
                if name in self._by_name:
                    raise LifecycleError(
                        f'"{name}" means both {self._by_name[name].version} and {model.version}: serve one'
                    )
                self._by_name[name] = model

    def get(self, name: str) -> ServedModel:
        """By name, version or alias. Raises ModelNotFound naming what is served."""
        if name not in self._by_name:
            raise ModelNotFound(f'no model "{name}"; served here: {", ".join(sorted(self._by_name))}', param="model")
        return self._by_name[name]

    def all(self) -> list[ServedModel]:
        return list(self._models)
