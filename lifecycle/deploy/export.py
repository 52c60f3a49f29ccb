"""Writing the artefact, and the proof that it says what its parent says."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import AutoProcessor, AutoTokenizer, GenerationConfig

from lifecycle.deploy.config import DeployConfig
from lifecycle.errors import LifecycleError
from lifecycle.evaluation import sets
from lifecycle.hardware import DTYPES
from lifecycle.model.loading import load_causal_lm, save_int8, sees
from lifecycle.registry import ModelVersion

PROBES = 20
"""Conversations on which parent and artefact are compared."""


def export(parent: ModelVersion, config: DeployConfig, directory: Path) -> None:
    """Weights in the wanted type, tokenizer and chat template, and the defaults of a served model."""
    int8 = config.dtype == "int8"
    if int8 and sees(parent.path):
        raise LifecycleError(f"{parent.ref} sees, and a vision tower is not rounded to int8: use --set dtype=bf16")
    model = load_causal_lm(parent.path, dtype=torch.float32 if int8 else DTYPES[config.dtype])
    tokenizer = AutoTokenizer.from_pretrained(parent.path)
    if not tokenizer.chat_template:
        raise LifecycleError(f"{parent.ref} has no chat template, so nobody can chat with it: fine-tune it first, lifecycle sft --parent {parent.ref}")
    if int8:
        from lifecycle.deploy.rounding import to_int8

        to_int8(model, tokenizer, config.calibration, config.calibration_texts, parent.ref)
    told = (Path(parent.path) / "generation_config.json").is_file()  # an imported one may lack it
    stops = GenerationConfig.from_pretrained(parent.path).eos_token_id if told else tokenizer.eos_token_id
    choice = {"do_sample": True, "temperature": config.temperature, "top_p": config.top_p} if config.temperature else {"do_sample": False}
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=stops,
        max_new_tokens=config.max_tokens,
        **choice,
    )
    if int8:
        save_int8(model, directory)
    else:
        model.save_pretrained(directory)
    (AutoProcessor.from_pretrained(parent.path) if sees(parent.path) else tokenizer).save_pretrained(directory)


@torch.inference_mode()
def difference(parent: Path, exported: Path) -> dict[str, float]:
    """How far the reloaded artefact is from its parent on held-out conversations.

    "mean_difference" and "max_difference" of the log-probabilities of what stands there (nats per token), and
    "agreement", the share of positions with the same likeliest token; "perplexity" of the artefact and "parent_perplexity".
    Raises LifecycleError for weights that are not finite.
    """
    tokenizer = AutoTokenizer.from_pretrained(exported)
    before = load_causal_lm(parent, dtype=torch.float32).eval()
    after = load_causal_lm(exported).eval()
    told, agreed = [], []
    for task in sets.load("reading", PROBES):
        ids = tokenizer.apply_chat_template(task["messages"], return_tensors="pt", return_dict=True)["input_ids"]  # [1, T]
        one, other = before(ids).logits[0].log_softmax(-1), after(ids).logits[0].float().log_softmax(-1)  # [T, V]
        said = ids[0, 1:, None]
        told.append(torch.stack([logprobs[:-1].gather(1, said).flatten() for logprobs in (one, other)]))  # [2, T - 1]
        agreed.append(one.argmax(-1) == other.argmax(-1))
    before_and_after = torch.cat(told, 1)
    gap = (before_and_after[0] - before_and_after[1]).abs()
    if not torch.isfinite(gap).all():
        raise LifecycleError(f"{exported} gives values that are not finite: its weights are broken, nothing was published")
    return {
        "agreement": torch.cat(agreed).float().mean().item(),
        "mean_difference": gap.mean().item(),
        "max_difference": gap.max().item(),
        "perplexity": math.exp(-before_and_after[1].mean().item()),
        "parent_perplexity": math.exp(-before_and_after[0].mean().item()),
    }
