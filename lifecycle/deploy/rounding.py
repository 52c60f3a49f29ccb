"""From a float model to an int8 one: calibrate, smooth, round."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lifecycle.deploy.smoothing import activation_maxima, require_family, smooth
from lifecycle.evaluation import sets
from lifecycle.evaluation.answering import Answerer
from lifecycle.model.int8 import Int8Linear, round_linears


def to_int8(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, ref: str) -> None:
    """Turn an fp32 model into int8, in place; what is not a matrix of the decoder becomes bf16.

    Calibrated on `count` conversations. Raises LifecycleError for a family whose activations cannot be folded.
    """
    require_family(model, ref)
    smooth(model, activation_maxima(model, conversations(model, tokenizer, count)))
    round_linears(model)
    scales = {module: module.weight_scale for module in model.modules() if isinstance(module, Int8Linear)}
    model.to(torch.bfloat16)
    for module, scale in scales.items():
        module.weight_scale = scale


def conversations(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int) -> list[list[int]]:
    """Token ids of `count` tasks of the development split, each with the model's own answer: what it will read when it is served."""
    skills = sets.skills(None)
    shares = [count // len(skills) + (place < count % len(skills)) for place in range(len(skills))]
    tasks = [task for skill, share in zip(skills, shares, strict=True) if share for task in sets.development(skill, share)]
    answerer = Answerer(model.eval(), tokenizer, is_base=False)
    answers = answerer.answer(tasks)
    return [
        answerer.prompt(task["messages"], task["tools"]) + tokenizer.encode(answer, add_special_tokens=False)
        for task, answer in zip(tasks, answers, strict=True)
    ]
