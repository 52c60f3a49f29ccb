"""Checkpoints for others to open: a plain Hugging Face directory, written and read."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from lifecycle.errors import LifecycleError
from lifecycle.hardware import DTYPES
from lifecycle.model.decoder import Decoder
from lifecycle.model.directory import is_int8
from lifecycle.model.presets import ModelConfig


def save_checkpoint(
    model: Decoder, config: ModelConfig, tokenizer: PreTrainedTokenizerFast, directory: Path, dtype: str = "fp32"
) -> None:
    """Write config.json, model.safetensors, the tokenizer and generation_config.json into `directory`.

    transformers' `AutoModelForCausalLM` and `AutoTokenizer` open the result. `dtype` is "fp32" or "bf16". These
    are weights to use, not a state to resume training from.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    stop = [tokenizer.eos_token_id]
    end_of_turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    if end_of_turn is not None and end_of_turn not in stop:
        stop.append(end_of_turn)
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}

    llama = config.to_llama()
    llama.update({**ids, "eos_token_id": tokenizer.eos_token_id, "dtype": DTYPES[dtype]})
    llama.save_pretrained(directory)
    GenerationConfig(**ids, eos_token_id=stop, do_sample=True, temperature=0.8, top_p=0.95).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    weights = {
        name: weight.detach().to("cpu", DTYPES[dtype]).contiguous() for name, weight in model.state_dict().items()
    }
    if config.tie_embeddings:
        del weights["lm_head.weight"]  # safetensors refuses shared memory; readers tie it again
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def load_checkpoint(directory: Path) -> Decoder:
    """The decoder of a Hugging Face directory, in fp32 and ready to run (`eval`).

    Raises LifecycleError when the directory holds no checkpoint or one of another architecture.
    """
    directory = Path(directory)
    config_file, weights_file = directory / "config.json", directory / "model.safetensors"
    if not config_file.is_file() or not weights_file.is_file():
        raise LifecycleError(f"{directory} is no checkpoint: expected config.json and model.safetensors in it")
    model_type = json.loads(config_file.read_text()).get("model_type")
    if model_type != "llama":
        raise LifecycleError(f'{directory} holds a "{model_type}" model, not a "llama": open it with transformers')
    if is_int8(directory):
        raise LifecycleError(f"{directory} holds int8 weights: open it with lifecycle.model.loading.load_causal_lm")
    model = Decoder(ModelConfig.from_llama(LlamaConfig.from_pretrained(directory)))
    weights = {name: weight.float() for name, weight in load_file(weights_file).items()}
    if model.config.tie_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    problems = set(weights) ^ set(model.state_dict())
    if problems:
        raise LifecycleError(
            f"{weights_file} does not fit its config.json: unexpected or missing {', '.join(sorted(problems)[:3])}"
        )
    model.load_state_dict(weights)
    return model.eval()


def written_out(model: PreTrainedModel) -> Decoder | None:
    """A decoder that holds the very parameters of a Llama of transformers, in fp32: who trains one trains the other.

    None for a model of another architecture, or a Llama with something that the decoder lacks.
    """
    if type(model) is not LlamaForCausalLM:
        return None
    try:
        decoder = Decoder(ModelConfig.from_llama(model.config))
    except LifecycleError:
        return None
    decoder.load_state_dict(model.state_dict(keep_vars=True), assign=True)
    if decoder.config.tie_embeddings:
        decoder.lm_head.weight = decoder.model.embed_tokens.weight
    return decoder
