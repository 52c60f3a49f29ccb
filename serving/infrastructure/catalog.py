"""The models and adapters one server answers for, which may change while it does."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from lifecycle.registry.references import check_name
from serving.application.ports import ServedModel
from serving.domain.errors import Conflict, InvalidRequest, ModelNotFound
from serving.infrastructure.adapter_source import FoundAdapter, find_adapter

BUSY = "loading"
"""The code of a refusal that will do in a moment."""
PATIENCE = 60.0  # seconds between two looks at an engine that still works

Load = Callable[..., ServedModel]
"""(ref, adapters=, kv_memory_mb=, engines=) to a model with its engine started; raises LifecycleError or Conflict."""


class Catalog:
    """A `ModelCatalog`. Safe from any thread: readers see the models before a change or after it, never in between.

    `load` and `registry` are what more models and adapters come from; without them the models stay those of the start.
    Raises LifecycleError when a name means two of them.
    """

    def __init__(
        self, models: Sequence[ServedModel], *, load: Load | None = None, registry: ModelRegistry | None = None
    ) -> None:
        self._load = load
        self._registry = registry
        self._lock = threading.RLock()  # held for moments, by whoever changes something
        self._loading = threading.Lock()  # held for as long as it takes, by the one who loads
        self._numbers = itertools.count()
        self._retiring: list[ServedModel] = []
        self._answered: set[str] = set()  # all versions that have been served
        try:
            self._show(list(models))
        except Conflict as error:
            raise LifecycleError(f"{error.message}: serve one") from None

    # -- reading ------------------------------------------------------------------------------------------------------

    def get(self, name: str) -> ServedModel:
        """By name, version or alias. Raises ModelNotFound naming what is served."""
        by_name = self._by_name
        if name not in by_name:
            raise ModelNotFound(f'no model "{name}"; served here: {", ".join(sorted(by_name))}', param="model")
        return by_name[name]

    def version_of(self, name: str) -> str:
        """The version that a name means; one that is served no more is itself. Raises ModelNotFound."""
        return name if name not in self._by_name and name in self._answered else self.get(name).version

    def all(self) -> list[ServedModel]:
        """Adapters included; the first one answers requests that name no model."""
        return list(self._models)

    def engines(self) -> list[ServedModel]:
        """One model per engine: without adapters, which share that of their parent."""
        return [model for model in self._models if model.adapter is None]

    def retiring(self) -> list[ServedModel]:
        """Those that answer nobody new and finish what they began, each under a name that no other has."""
        with self._lock:
            return [
                replace(model, name=f"{model.version} (retiring{f' {at}' if at else ''})", aliases=())
                for at, model in enumerate(self._retiring)
            ]

    # -- changing -----------------------------------------------------------------------------------------------------

    def load(self, ref: str, *, adapters: bool = False, kv_memory_mb: int | None = None) -> ServedModel:
        """Serve a registry version, too; it goes by its bare name if that is free. Others are served meanwhile."""
        if self._load is None or self._registry is None:
            raise Conflict("this server serves what it was started with, and knows no registry to load more from")
        with self._one_at_a_time(), _refusals("ref"):
            version = self._registry.resolve(ref)
            if version.ref in self._by_name:
                raise Conflict(f"{version.ref} is served already, as {self._by_name[version.ref].name}", param="ref")
            model = self._load(
                version.ref, adapters=adapters, kv_memory_mb=kv_memory_mb, engines=len(self.engines()) + 1
            )
            try:
                with self._lock:
                    taken = self._by_name
                    model = replace(
                        model,
                        name=model.version if model.name in taken else model.name,
                        aliases=tuple(alias for alias in model.aliases if alias not in taken),
                    )
                    self._show([*self._models, model])
            except BaseException:
                model.engine.close()
                raise
        return model

    def unload(self, name: str, timeout: float) -> bool:
        """Take no new requests, let the others finish, free the memory; True when all of them finished in `timeout` s."""
        with self._lock:
            model = self.get(name)
            rest = [other for other in self._models if other is not model]
            if model.adapter is None:
                self._require_childless(model, "name")
                if not rest:
                    raise Conflict(f"{model.name} is the last model: load another one before you unload it", param="name")
            self._show(rest)
            if model.adapter is None:
                self._retiring.append(model)
        if model.adapter is not None:
            return model.engine.remove_adapter(model.adapter, timeout)
        in_time = model.engine.drain(timeout)
        self._end(model)
        return in_time

    def swap(self, ref: str, name: str | None = None, *, kv_memory_mb: int | None = None) -> ServedModel:
        """Serve a registry version in place of a model, by default the first one, under the names that clients use for it.

        Returns when new requests go to it; those that run finish on the old engine, which is closed after the last one.
        """
        if self._load is None or self._registry is None:
            raise Conflict("this server serves what it was started with, and knows no registry to load more from")
        with self._one_at_a_time(), _refusals("ref"):
            old = self._models[0] if name is None else self.get(name)
            version = self._registry.resolve(ref)
            if version.ref == old.version:
                return old
            if version.ref in self._by_name:
                raise Conflict(f"{version.ref} is served already, beside {old.version}: POST /admin/aliases names it", param="ref")
            self._require_replaceable(old)
            new = self._load(version.ref, adapters=False, kv_memory_mb=kv_memory_mb, engines=len(self.engines()))
            try:
                with self._lock:
                    new = self._replace(self.get(old.version), new)
            except BaseException:
                new.engine.close()
                raise
        self._retire(old)
        return new

    def take_over(self, name: str, place: str) -> ServedModel:
        """Let a served model answer in the place of another, under its names too; the other one retires."""
        with self._lock:
            new, old = self.get(name), self.get(place)
            if new is old:
                return new
            self._require_replaceable(old)
            rest = [model for model in self._models if model not in (old, new)]
            words = dict.fromkeys((old.name, *new.aliases, *old.aliases, new.name))
            chosen = old.name if old.name != old.version else new.name
            aliases = tuple(word for word in words if word not in (chosen, old.version, new.version))
            new = replace(new, name=chosen, aliases=aliases)
            shown = [new if model is old else model for model in self._models if model in (old, *rest)]
            self._show([replace(one, parent=chosen) if one.adapter and one.engine is new.engine else one for one in shown])
        self._retire(old)
        return new

    def _retire(self, model: ServedModel) -> None:
        """Let the last request finish, however long it takes, then free the memory."""

        def wait() -> None:
            while not model.engine.drain(PATIENCE):
                pass
            self._end(model)

        with self._lock:
            self._retiring.append(model)
        threading.Thread(target=wait, name=f"retire {model.version}", daemon=True).start()

    def _end(self, model: ServedModel) -> None:
        model.engine.close()
        with self._lock:
            self._retiring = [other for other in self._retiring if other is not model]
        del model
        gc.collect()  # a model is full of references to itself

    def _replace(self, old: ServedModel, new: ServedModel) -> ServedModel:
        """Show `new` where `old` was, and with its aliases; its name becomes one unless it is a version's."""
        self._require_replaceable(old)
        rest = [model for model in self._models if model is not old]
        taken = {word for model in rest for word in (model.name, model.version, *model.aliases)}
        names = (new.name, *new.aliases, *old.aliases, *((old.name,) if old.name != old.version else ()))
        free = [word for word in dict.fromkeys(names) if word not in taken]
        chosen = new.name if new.name in free else new.version
        new = replace(new, name=chosen, aliases=tuple(word for word in free if word not in (chosen, new.version)))
        self._show([new if model is old else model for model in self._models])
        return new

    def _require_replaceable(self, model: ServedModel) -> None:
        """Adapters are trained on one version's weights, and belong to no other."""
        if model.adapter is not None:
            raise Conflict(f"{model.name} is an adapter: remove it and add the other one", param="model")
        self._require_childless(model, "model")

    def _require_childless(self, model: ServedModel, param: str) -> None:
        """By engine: a model's name may change."""
        if children := [other.name for other in self._models if other.adapter is not None and other.engine is model.engine]:
            raise Conflict(f"{model.name} has adapters: unload {', '.join(children)} first", param=param)

    def set_alias(self, alias: str, name: str) -> ServedModel:
        """Another name for a model; one that is an alias already moves, between two requests."""
        with _refusals("alias"):
            check_name("an alias", alias)
        with self._lock:
            model = self.get(name)
            current = self._by_name.get(alias)
            if current is not None and alias not in current.aliases:
                raise Conflict(f'"{alias}" is {current.version} itself: choose another word for the alias', param="alias")
            changed = [self._without(alias, other) for other in self._models]
            at = self._models.index(model)
            changed[at] = replace(changed[at], aliases=(*changed[at].aliases, alias))
            self._show(changed)
            return changed[at]

    def remove_alias(self, alias: str) -> ServedModel:
        """The model that it meant."""
        with self._lock:
            model = self._by_name.get(alias)
            if model is None or alias not in model.aliases:
                raise ModelNotFound(f'no alias "{alias}" is served here', param="alias")
            at = self._models.index(model)
            changed = list(self._models)
            changed[at] = self._without(alias, model)
            self._show(changed)
            return changed[at]

    def add_adapter(self, name: str, ref: str, base: str | None = None) -> ServedModel:
        """Serve an adapter from the registry under a name of its own; `base` is that of its manifest unless given."""
        if self._registry is None:
            raise Conflict("this server serves what it was started with, and knows no registry to load more from")
        with _refusals("ref"):
            found = find_adapter(ref, self._registry)
        return self.serve_adapter(name, found, base)

    def serve_adapter(self, name: str, found: FoundAdapter, base: str | None = None) -> ServedModel:
        """The same for one that is read already, wherever it came from."""
        with _refusals("name"):
            check_name("an adapter's name", name)
        with self._lock:
            if name in self._by_name:
                raise Conflict(f'"{name}" means {self._by_name[name].version} already: choose another name', param="name")
            if found.version in self._by_name:
                raise Conflict(f"{found.version} is served already, as {self._by_name[found.version].name}", param="ref")
            parent = self._base(found, base)
        # Never used twice: what an unloaded adapter left in the prefix cache is nobody's.
        adapter_id = f"{name}#{next(self._numbers)}"
        with _refusals("ref"):
            parent.engine.add_adapter(adapter_id, found.weights)
        model = replace(
            parent,
            name=name,
            version=found.version or name,
            aliases=(),
            created=found.created or parent.created,
            lineage=found.lineage or (name, *parent.lineage),
            adapter=adapter_id,
            parent=parent.name,
        )
        try:
            with self._lock:
                if all(other.engine is not parent.engine for other in self.engines()):
                    raise Conflict(f"{parent.name} was unloaded meanwhile", param="base")
                self._show([*self._models, model])
        except BaseException:
            parent.engine.remove_adapter(adapter_id, timeout=0)
            raise
        return model

    def _base(self, found: FoundAdapter, base: str | None) -> ServedModel:
        if base is not None:
            model = self.get(base)
            if model.adapter is not None:
                raise InvalidRequest(f"{base} is an adapter itself: name a model", param="base")
            return model
        engines = self.engines()
        if found.base is None:  # a directory does not say which version it was trained on, but its sizes have to fit
            if len(engines) > 1:
                raise InvalidRequest("several models are served: say which one the adapter belongs to", param="base")
            return engines[0]
        for model in engines:
            if model.version == found.base:
                return model
        raise Conflict(
            f"the adapter was trained on {found.base}, which is not served here: load it first, with adapters allowed, or "
            "name the base yourself",
            param="ref",
        )

    @contextmanager
    def _one_at_a_time(self):
        if not self._loading.acquire(blocking=False):
            raise Conflict("another model is being loaded; try again when it is there", code=BUSY)
        try:
            yield
        finally:
            self._loading.release()

    @staticmethod
    def _without(alias: str, model: ServedModel) -> ServedModel:
        if alias not in model.aliases:
            return model
        return replace(model, aliases=tuple(other for other in model.aliases if other != alias))

    def _show(self, models: list[ServedModel]) -> None:
        """These from now on. Raises Conflict, and nothing has changed, when a name means two of them."""
        by_name: dict[str, ServedModel] = {}
        for model in models:
            for name in {model.name, model.version, *model.aliases}:
                if name in by_name:
                    raise Conflict(f'"{name}" means both {by_name[name].version} and {model.version}')
                by_name[name] = model
        self._models, self._by_name = models, by_name
        self._answered |= {model.version for model in models}


@contextmanager
def _refusals(param: str):
    """What the registry and the loaders refuse is a mistake in the request."""
    try:
        yield
    except LifecycleError as error:
        raise InvalidRequest(str(error), param=param) from error
