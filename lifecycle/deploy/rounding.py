"""From a float model to an int8 one: calibrate, smooth, round."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lifecycle.deploy.smoothing import activation_maxima, require_family, smooth
from lifecycle.evaluation import sets
from lifecycle.evaluation.answering import Answerer
from lifecycle.model.int8 import Int8Linear, round_linears

MADE_UP_TOKENS = 256
"""Of a text that the model makes up."""


def to_int8(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, texts: int, ref: str) -> None:
    """Turn an fp32 model into int8, in place; what is not a matrix of the decoder becomes bf16.

    Calibrated on `count` conversations and on as many `texts` of the model's own. Raises LifecycleError for a family whose
    activations cannot be folded.
    """
    require_family(model, ref)
    read = conversations(model, tokenizer, count) + made_up(model, texts)
    smooth(model, activation_maxima(model, read))
    round_linears(model)
    scales = {module: module.weight_scale for module in model.modules() if isinstance(module, Int8Linear)}
    model.to(torch.bfloat16)
    for module, scale in scales.items():
        module.weight_scale = scale


@torch.inference_mode()
def made_up(model: PreTrainedModel, count: int) -> list[list[int]]:
    """Token ids of `count` texts that the model goes on with from a random token, the same ones every time.

    What a model writes is the nearest thing to what it was trained on (Liu et al. 2023, arXiv 2305.17888), and reaches what
    conversations about the few subjects of the evaluation do not.
    """
    length = min(MADE_UP_TOKENS, model.config.max_position_embeddings)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        first = torch.randint(model.config.vocab_size, (count, 1))
        new = {"max_new_tokens": length - 1, "min_new_tokens": length - 1}
        choice = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        texts = model.generate(first, attention_mask=torch.ones_like(first), pad_token_id=0, **new, **choice)
    return texts.tolist()


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
