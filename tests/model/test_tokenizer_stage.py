"""The tokenizer is a version like any other."""

from lifecycle.model.tokenizer import load_tokenizer
from lifecycle.model.tokenizer_stage import TokenizerConfig, run
from lifecycle.registry import DataRef, ModelRegistry


def test_it_is_published_once_and_opens_from_its_version(tmp_path):
    registry, data = ModelRegistry(tmp_path), DataRef("test", "0")
    texts = [f"Ann has {count} pears." for count in range(50)]
    version = run(TokenizerConfig(vocab_size=290), registry, texts, data)
    assert version.ref == "tokenizer/1"
    assert run(TokenizerConfig(vocab_size=290), registry, [], data).ref == version.ref  # texts are not even read
    assert run(TokenizerConfig(vocab_size=280), registry, texts, data).ref == "tokenizer/2"
    tokenizer = load_tokenizer(registry.load("tokenizer/1").path)
    assert len(tokenizer) == version.manifest.metrics["vocab_size"] <= 290
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)


def test_a_sorted_data_set_is_seen_from_end_to_end(tmp_path):
    texts = ["aaaa aaaa"] * 50 + ["zzzz zzzz"] * 50
    version = run(TokenizerConfig(vocab_size=290, documents=10), ModelRegistry(tmp_path), texts, DataRef("test", "0"))
    vocabulary = load_tokenizer(version.path).get_vocab()
    assert {"aaaa", "zzzz"} <= set(vocabulary)
