"""Models and adapters come and go while others are asked; whoever was accepted gets the whole answer."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lifecycle.errors import LifecycleError
from serving.application.completion import GenerateText
from serving.application.deltas import ChoiceFinished, TextDelta
from serving.application.generation import Options
from serving.composition import ServingConfig, build_catalog
from serving.domain.errors import Conflict, Draining, InvalidRequest, ModelNotFound
from serving.infrastructure import memory

from .conftest import save_adapter

CONFIG = ServingConfig(dtype="float32", kv_memory_mb=4, max_num_seqs=8)
PROMPT = "the quick brown fox jumps over the lazy dog. 0123456789 " * 4


@pytest.fixture
def catalog(registry):
    catalog = build_catalog(["tiny/1"], CONFIG, registry, adapters={"pirate": "adapter/1"})
    yield catalog
    for model in catalog.engines():
        model.engine.close()


def start(catalog, name, max_tokens=24, prompt=PROMPT):
    options = Options(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
    return GenerateText([prompt], options).start(catalog.get(name))


def finish(generation) -> tuple[str, str, int]:
    """(text, finish reason, prompt tokens from the prefix cache)"""
    deltas = [delta for update in generation.updates(5.0) for delta in update]
    text = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    (end,) = [delta for delta in deltas if isinstance(delta, ChoiceFinished)]
    return text, end.reason, generation.usage.cached_tokens


def ask(catalog, name, **options) -> str:
    text, reason, _ = finish(start(catalog, name, **options))
    assert reason == "length"
    return text


def test_an_adapter_answers_through_the_engine_of_its_base(catalog):
    base, pirate = catalog.all()
    assert catalog.engines() == [base] and pirate.engine is base.engine
    assert (pirate.version, pirate.parent, pirate.lineage) == ("adapter/1", "tiny", ("adapter/1", "tiny/1"))
    alone = {name: ask(catalog, name) for name in ("tiny", "pirate")}
    assert alone["tiny"] != alone["pirate"]
    together = [start(catalog, name) for name in ("tiny", "pirate") * 3]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(finish, together))
    assert [text for text, _, _ in answers] == [alone["tiny"], alone["pirate"]] * 3


def test_the_prefix_cache_is_not_shared_with_the_base_nor_with_another_adapter_nor_after_a_reload(catalog):
    catalog.add_adapter("poet", "adapter/2")
    for name in ("tiny", "pirate", "poet"):
        assert finish(start(catalog, name))[2] == 0
        assert finish(start(catalog, name))[2] > 0, "its own is used"
    catalog.unload("poet", 5)
    catalog.add_adapter("poet", "adapter/2")
    assert finish(start(catalog, "poet"))[2] == 0


def test_an_adapter_that_leaves_lets_its_requests_finish(catalog):
    whole = ask(catalog, "pirate", max_tokens=200)
    generation = start(catalog, "pirate", max_tokens=200)
    with ThreadPoolExecutor(1) as pool:
        left = pool.submit(catalog.unload, "pirate", 30)
        assert finish(generation)[:2] == (whole, "length")
        assert left.result(30) is True
    with pytest.raises(ModelNotFound, match='no model "pirate"'):
        start(catalog, "pirate")
    assert ask(catalog, "tiny")


def test_time_is_up_for_requests_of_an_adapter_and_nobody_else(catalog):
    mate = start(catalog, "tiny", max_tokens=100)
    generation = start(catalog, "pirate", max_tokens=400)
    assert catalog.unload("pirate", 0) is False
    assert finish(generation)[1] == "cancelled"
    assert finish(mate)[1] == "length"


def test_a_request_that_comes_too_late_is_refused_whole(catalog):
    pirate = catalog.get("pirate")
    catalog.unload("pirate", 5)
    with pytest.raises(ModelNotFound, match="not loaded any more"):
        GenerateText([PROMPT]).start(pirate)


def test_models_load_and_unload_under_traffic(catalog):
    """Two clients keep asking while a second model comes, takes the alias over, and the first one goes."""
    stop, answers, failures = threading.Event(), {"tiny": set(), "production": set()}, []

    def client(name):
        while not stop.is_set():
            try:
                answers[name].add(ask(catalog, name, max_tokens=8))
            except (ModelNotFound, Draining) as refused:  # only once the model it names has gone
                failures.append((name, refused))
                return

    expected = ask(catalog, "tiny", max_tokens=8)
    threads = [threading.Thread(target=client, args=(name,)) for name in answers]
    for thread in threads:
        thread.start()
    try:
        newer = catalog.load("tiny/2")
        assert (newer.name, newer.aliases) == ("tiny/2", ())
        catalog.set_alias("production", "tiny/2")
        assert catalog.get("production") == catalog.get("tiny/2")
        catalog.unload("pirate", 10)
        assert catalog.unload("tiny", 30) is True
        other = ask(catalog, "production", max_tokens=8)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [name for name, _ in failures] in ([], ["tiny"])
    assert answers["tiny"] <= {expected} and answers["production"] <= {expected, other} and other != expected
    assert [model.version for model in catalog.all()] == ["tiny/2"]


def test_names_stay_unique(catalog):
    with pytest.raises(Conflict, match="served already, as tiny"):
        catalog.load("production")
    with pytest.raises(Conflict, match="means adapter/1 already"):
        catalog.add_adapter("pirate", "adapter/2")
    with pytest.raises(Conflict, match="adapter/1 is served already, as pirate"):
        catalog.add_adapter("poet", "adapter/1")
    with pytest.raises(Conflict, match='"pirate" is adapter/1 itself'):
        catalog.set_alias("pirate", "tiny")
    with pytest.raises(InvalidRequest, match="cannot be an alias"):
        catalog.set_alias("../etc", "tiny")
    assert [model.name for model in catalog.all()] == ["tiny", "pirate"]
    assert ask(catalog, "pirate")


def test_aliases_come_move_and_go(catalog):
    catalog.set_alias("best", "pirate")
    assert catalog.get("best").name == "pirate"
    catalog.set_alias("best", "tiny")
    assert catalog.get("best").name == "tiny" and catalog.get("pirate").aliases == ()
    catalog.remove_alias("best")
    for gone in (lambda: catalog.get("best"), lambda: catalog.remove_alias("best"), lambda: catalog.set_alias("x", "nobody")):
        with pytest.raises(ModelNotFound):
            gone()


def test_what_others_need_stays(catalog):
    with pytest.raises(Conflict, match="has adapters: unload pirate first"):
        catalog.unload("tiny", 0)
    catalog.unload("pirate", 0)
    with pytest.raises(Conflict, match="the last model"):
        catalog.unload("tiny", 0)
    assert ask(catalog, "tiny")


def test_mistakes_say_what_to_do(catalog, registry, base, tmp_path):
    with pytest.raises(InvalidRequest, match='no version "tiny/9"'):
        catalog.load("tiny/9")
    with pytest.raises(InvalidRequest, match="adapter/2 is an adapter of tiny/1, not a model"):
        catalog.load("adapter/2")
    with pytest.raises(InvalidRequest, match="tiny/2 is a whole model, not an adapter"):
        catalog.add_adapter("poet", "tiny/2")
    with pytest.raises(InvalidRequest, match="pirate is an adapter itself"):
        catalog.add_adapter("poet", "adapter/2", base="pirate")
    with pytest.raises(LifecycleError, match="which is not served here: load it first"):
        build_catalog(["tiny/2"], CONFIG, registry, adapters={"poet": "adapter/2"})
    save_adapter(base.path, tmp_path / "dir")
    with pytest.raises(InvalidRequest):  # over HTTP no paths are taken
        catalog.add_adapter("poet", str(tmp_path / "dir"))


def test_a_directory_that_peft_wrote_can_be_served(registry, base, tmp_path):
    save_adapter(base.path, tmp_path / "dir", seed=1)
    catalog = build_catalog(["tiny/1"], CONFIG, registry, adapters={"here": str(tmp_path / "dir"), "there": "adapter/1"})
    try:
        assert ask(catalog, "here") == ask(catalog, "there")
    finally:
        catalog.get("tiny").engine.close()


def test_a_model_without_room_is_refused_before_it_is_read(catalog, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(Conflict, match="not enough memory: .* MiB are needed and 0 MiB are free") as refused:
        catalog.load("other")
    assert refused.value.code == "insufficient_memory"
    assert len(catalog.all()) == 2 and ask(catalog, "tiny")


def test_native_kernels_are_left_out_where_adapters_are_allowed(registry, caplog):
    caplog.set_level("INFO")
    catalog = build_catalog(["tiny/1"], ServingConfig(kv_memory_mb=4), registry, adapters={"pirate": "adapter/1"})
    try:
        assert "applies no LoRA adapters" in caplog.text and ask(catalog, "pirate")
    finally:
        catalog.get("tiny").engine.close()
    with pytest.raises(LifecycleError, match="native kernels apply no adapters"):
        ServingConfig(backend="native", adapters=True)


def test_a_model_whose_kernels_apply_no_adapters_says_so(registry):
    from serving.infrastructure.native.library import NativeUnavailable, best_level, load

    try:
        load(best_level())
    except NativeUnavailable as error:
        pytest.skip(str(error))
    catalog = build_catalog(["tiny/1"], ServingConfig(backend="native", kv_memory_mb=4), registry)
    try:
        with pytest.raises(Conflict, match="apply no adapters: load it again with adapters allowed"):
            catalog.add_adapter("pirate", "adapter/1")
    finally:
        catalog.get("tiny").engine.close()


def test_adapters_belong_to_their_engine_whatever_its_model_is_called(registry):
    catalog = build_catalog(["other/1", "tiny/1"], CONFIG, registry, adapters={"pirate": "adapter/1"})
    engines = [model.engine for model in catalog.engines()]
    try:
        catalog.take_over("tiny/1", "other")
        assert catalog.get("other").version == "tiny/1" and catalog.get("other").name == "other"
        with pytest.raises(Conflict, match="has adapters: unload pirate first"):
            catalog.unload("other", 1.0)
    finally:
        for engine in engines:
            engine.close()
