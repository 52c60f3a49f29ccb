"""A version answers the same tasks alike, alone or in a batch, as a chat model or as a base model."""

import random
import shutil

import pytest
import torch
from transformers import AutoTokenizer

from lifecycle.evaluation.answering import WRITING, Answerer
from lifecycle.world.tasks import SKILLS, draw_tasks


@pytest.fixture(scope="module")
def tasks() -> list[dict]:
    drawn = [task for skill in SKILLS for task in draw_tasks(skill, 3, 4, random.Random(skill), held_out=True)]
    return random.Random(0).sample(drawn, len(drawn))


@pytest.fixture
def lively(start):
    """Loads a model whose answers differ: fresh weights only repeat their last token."""

    def load(is_base: bool = False) -> Answerer:
        answerer = Answerer.load(start.model("sft").path, is_base=is_base)
        torch.manual_seed(0)
        for weight in answerer.model.parameters():
            torch.nn.init.normal_(weight, 0, 0.3)
        return answerer

    return load


@pytest.mark.parametrize("is_base", [False, True], ids=["chat", "base"])
def test_a_batch_answers_as_each_task_alone(lively, tasks, is_base):
    answerer, tasks = lively(is_base), [task for task in tasks if task["skill"] not in WRITING]
    together = answerer.answer(tasks, batch_size=4)
    assert together == [answerer.answer([task])[0] for task in tasks]
    assert together == answerer.answer(tasks, batch_size=100, seed=1)
    assert len(set(together)) > 1


def test_stories_are_sampled_and_follow_from_the_seed(lively, tasks):
    answerer, writing = lively(), [task for task in tasks if task["skill"] in WRITING]
    once = answerer.answer(writing, seed=5)
    assert once == answerer.answer(writing, seed=5) != answerer.answer(writing, seed=6)


def test_a_chat_model_is_asked_in_its_template_and_a_base_model_in_plain_text(start, tasks):
    path = start.model("sft").path
    task = next(task for task in tasks if task["tools"])
    content = task["messages"][0]["content"]
    chat, base = (Answerer.load(path, is_base=is_base) for is_base in (False, True))
    asked = chat.tokenizer.decode(chat.prompt(task["messages"], task["tools"]))
    assert asked.endswith(f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n")
    assert task["tools"][0]["function"]["name"] in asked
    assert base.tokenizer.decode(base.prompt(task["messages"], None)) == f"<|endoftext|>{content}\n"


def test_a_model_without_a_template_or_padding_is_asked_like_a_base_model(start, tasks, tmp_path):
    place = tmp_path / "imported"
    shutil.copytree(start.model("sft").path, place)
    tokenizer = AutoTokenizer.from_pretrained(place)
    tokenizer.chat_template = tokenizer.pad_token = tokenizer.bos_token = None
    for file in place.glob("*.jinja"):
        file.unlink()
    tokenizer.save_pretrained(place)
    answerer = Answerer.load(place)
    assert answerer.is_base and answerer.tokenizer.pad_token_id is None
    short, *_, long = sorted((task for task in tasks if task["skill"] == "reading"), key=lambda task: len(str(task["messages"])))
    assert answerer.answer([short, long]) == [answerer.answer([task])[0] for task in (short, long)]


def test_markup_stays_in_an_answer_and_control_tokens_do_not(start):
    answerer = Answerer.load(start.model("sft").path)
    tokens = answerer.tokenizer.encode("<tool_call>{}</tool_call><|im_end|>", add_special_tokens=False)
    assert answerer._text(tokens) == "<tool_call>{}</tool_call>"


def test_a_base_models_answer_ends_with_its_line(start):
    answerer = Answerer.load(start.model("sft").path, is_base=True)
    tokens = answerer.tokenizer.encode(" It is red.\nWho has it?", add_special_tokens=False)
    assert answerer._text(tokens) == "It is red."


def test_no_tasks_no_answers(start):
    assert Answerer.load(start.model("sft").path).answer([]) == []
