"""What is told of a checkpoint from its files alone."""

import json

import pytest
from transformers import LlamaConfig, MistralConfig

from lifecycle.model.directory import WRITTEN_OUT, load_config, read_config

SIZE = {"hidden_size": 128, "intermediate_size": 100, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2}
SCALED = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize("config", [LlamaConfig(**SIZE), LlamaConfig(**SIZE, rope_parameters=SCALED, tie_word_embeddings=True)])
def test_a_llama_that_says_all_is_read_as_its_class_reads_it(config, tmp_path):
    config.save_pretrained(tmp_path)
    read, loaded = read_config(tmp_path), load_config(tmp_path)
    assert type(loaded) is LlamaConfig is not type(read)
    assert read.model_type == "llama" and read.get_text_config() is read
    for name in WRITTEN_OUT:
        assert getattr(read, name) == getattr(loaded, name), name


@pytest.mark.parametrize("missing", [*WRITTEN_OUT, "model_type"])
def test_what_is_not_said_is_left_to_the_class(missing, tmp_path):
    LlamaConfig(**SIZE).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != missing}))
    if missing == "model_type":
        with pytest.raises(ValueError, match="model_type"):
            read_config(tmp_path)
    else:
        assert read_config(tmp_path).to_dict() == load_config(tmp_path).to_dict()
        assert type(read_config(tmp_path)) is LlamaConfig


def test_numbers_that_are_none_are_refused_as_the_class_refuses_them(tmp_path):
    LlamaConfig(**SIZE).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"hidden_size": 128', '"hidden_size": "wide"'))
    for reader in (read_config, load_config):
        with pytest.raises(Exception, match="hidden_size"):
            reader(tmp_path)


def test_other_families_and_quantised_checkpoints(tmp_path):
    MistralConfig(**SIZE).save_pretrained(tmp_path)
    assert type(read_config(tmp_path)) is MistralConfig
    LlamaConfig(**SIZE, quantization_config={"quant_method": "compressed-tensors"}).save_pretrained(tmp_path)
    assert not hasattr(read_config(tmp_path), "quantization_config")
