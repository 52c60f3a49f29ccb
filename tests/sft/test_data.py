"""What is learnt are the assistant's words, all of them and nothing else, and no conversation sees its neighbour."""

import json

import pytest
import torch
from datasets import Dataset

from lifecycle.errors import LifecycleError
from lifecycle.sft import SFTConfig
from lifecycle.sft.data import read, tokenize
from lifecycle.sft.train import make_trainer
from lifecycle.world.conversations import sft_conversations

from .tiny import WORLD

CONFIG = SFTConfig(max_length=512, batch_rows=3, dtype="fp32")
TURN = {"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}


@pytest.fixture(scope="module")
def trainer(template, tmp_path_factory):
    start = template.copy(tmp_path_factory.mktemp("packing") / "registry")
    conversations, _ = sft_conversations(WORLD)
    return make_trainer(CONFIG, start.model("pretrain"), conversations, tmp_path_factory.mktemp("workspace"))


def segments(batch) -> list[tuple[int, slice]]:
    """(row, columns) of every conversation in a batch: where positions start again at 0."""
    found = []
    for row, positions in enumerate(batch["position_ids"]):
        starts = (positions == 0).nonzero().flatten().tolist() + [len(positions)]
        found += [(row, slice(begin, end)) for begin, end in zip(starts, starts[1:], strict=False)]
    return found


def spoken(tokenizer, ids: list[int]) -> list[bool]:
    """Which tokens the assistant says, read off the markup: after its name up to the end of its turn, with it."""
    opening = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    marks, speaking = [], False
    for place, token in enumerate(ids):
        speaking = speaking or ids[max(0, place - len(opening)) : place] == opening
        marks.append(speaking)
        speaking = speaking and token != end
    return marks


def test_labels_are_exactly_what_the_assistant_says(trainer):
    tokenizer, seen = trainer.processing_class, 0
    for batch in trainer.get_train_dataloader():
        for row, columns in segments(batch):
            ids, labels = batch["input_ids"][row, columns].tolist(), batch["labels"][row, columns].tolist()
            assert labels == [
                token if mark else -100 for token, mark in zip(ids, spoken(tokenizer, ids), strict=True)
            ], tokenizer.decode(ids)
            seen += any(label != -100 for label in labels)
    assert seen == WORLD.conversations


def test_packing_loses_and_cuts_nothing(trainer):
    conversations, _ = sft_conversations(WORLD)
    texts = [
        trainer.processing_class.apply_chat_template(
            json.loads(one["messages"]), tools=json.loads(one["tools"]), tokenize=False
        )
        for one in conversations
    ]
    packed = [
        trainer.processing_class.decode(batch["input_ids"][row, columns])
        for batch in trainer.get_train_dataloader()
        for row, columns in segments(batch)
        if (batch["labels"][row, columns] != -100).any()
    ]
    assert sorted(packed) == sorted(texts)


def test_a_conversation_answers_alike_alone_and_packed(trainer):
    model = trainer.model.eval()
    shared = 0
    for batch in trainer.get_train_dataloader():
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        with torch.no_grad():
            together = model(**inputs).logits
            for row, columns in segments(batch):
                alone = model(batch["input_ids"][row : row + 1, columns]).logits[0]
                torch.testing.assert_close(together[row, columns], alone, atol=1e-4, rtol=0)
                shared += columns.start > 0
    assert shared > 10


def test_a_file_gives_the_conversations_that_stand_in_it(tmp_path):
    file = tmp_path / "talk.jsonl"
    strange = "one\u2028line\x85only"  # line breaks to Python, not to JSON
    turns = [{"role": "user", "content": strange}, TURN[1]]
    file.write_text(
        json.dumps({"messages": turns, "tools": None}, ensure_ascii=False) + "\n\n" + json.dumps({"messages": TURN})
    )
    conversations, reference = read(file)
    assert [json.loads(text) for text in conversations["messages"]] == [turns, list(TURN)]
    assert reference.id == "file:talk.jsonl" and len(reference.hash) == 64


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "5",
        "null",
        "{}",
        '{"messages": "Hi"}',
        '{"messages": [{"content": "Hi"}]}',
        '{"messages": ["Hi"]}',
        '{"messages": {"role": "user"}}',
        '{"messages": []}',
        '{"messages": [{"role": "user", "content": "Hi"}]}',
    ],
)
def test_a_bad_line_is_named(tmp_path, line):
    file = tmp_path / "talk.jsonl"
    file.write_text(json.dumps({"messages": TURN}) + "\n" + line + "\n")
    with pytest.raises(LifecycleError, match=r"talk\.jsonl, line 2: "):
        read(file)


def test_a_file_that_is_not_there_or_empty_is_refused(tmp_path):
    with pytest.raises(LifecycleError, match="does not exist"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(LifecycleError, match="is empty"):
        read(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    "rows, says",
    [
        ({"messages": []}, "the conversations are empty"),
        ({"text": ["Hi"]}, 'need a column "messages", there is only text'),
        ({"messages": [list(TURN[:1])]}, "no conversation has an assistant's turn"),
        ({"messages": [list(TURN), [{"role": "robot", "content": "Hi"}]]}, "conversation 2 .*roles are system, user"),
        ({"messages": [json.dumps([{"role": "user", "content": 5}])]}, "conversation 1 "),
    ],
)
def test_conversations_that_cannot_be_learnt_from_are_refused(trainer, rows, says):
    with pytest.raises(LifecycleError, match=says):
        tokenize(Dataset.from_dict(rows), trainer.processing_class)
