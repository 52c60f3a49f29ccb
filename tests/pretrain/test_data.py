"""Every token is predicted once an epoch, documents stay whole, and the order is a function of seed and position."""

import itertools

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.errors import LifecycleError
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.pretrain.config import configure
from lifecycle.pretrain.data import tokenize
from lifecycle.pretrain.train import batching
from lifecycle.training.batches import Position, batches, plan_epoch

from .conftest import CONFIG

CONTEXT = CONFIG.model.context_length


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["Ann has 3 pears.", "Bob has 12 apples."] * 9, 300)


def open_documents(tokenizer, texts, directory):
    return tokenize(Dataset.from_dict({"text": texts}), tokenizer, CONTEXT, directory)


def test_documents_come_back_whole_and_long_ones_in_pieces(tokenizer, tmp_path):
    texts = ["Ann has 3 pears.", "Bob has 12 apples. " * 20, "é<|im_end|>", ""]
    documents = open_documents(tokenizer, texts, tmp_path)
    predicted = [documents.tokens[start + 1 : end] for start, end in zip(documents.starts, documents.ends, strict=True)]
    assert all(1 <= len(piece) <= CONTEXT for piece in predicted)
    stream = np.concatenate(predicted).tolist()
    whole = [0] + stream
    assert documents.tokens[0] == 0
    assert tokenizer.decode(whole) == "".join(f"<|endoftext|>{text}<|endoftext|>" for text in texts[:1]) + "".join(
        f"{text}<|endoftext|>" for text in texts[1:3]
    )
    control = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert control not in stream  # spelled out in a document it is only text


def test_tokens_are_kept_for_the_next_call(tokenizer, tmp_path):
    first = open_documents(tokenizer, ["Ann has 3 pears."], tmp_path)
    again = open_documents(tokenizer, ["something else"], tmp_path)
    assert first.tokens.tolist() == again.tokens.tolist()


def test_half_written_tokens_are_written_again(tokenizer, tmp_path):
    (tmp_path / "tokens.bin").write_bytes(b"\1\2\3")
    assert (
        tokenizer.decode(open_documents(tokenizer, ["Ann"], tmp_path).tokens.astype(int))
        == "<|endoftext|>Ann<|endoftext|>"
    )


def test_what_is_given_is_read_and_not_predicted(tokenizer, tmp_path):
    text = "Ann has 3 pears.\nHow many?\nThree é.\nWho?\nAnn."
    ranges = [[0, text.index("Three")], [text.index("Who"), text.index("Ann.")]]
    rows = {"text": ["Bob has 12 apples.", text, "Bob"], "given": [None, ranges, [[0, 3]]]}
    documents = tokenize(Dataset.from_dict(rows), tokenizer, CONTEXT, tmp_path)
    for _ in range(2):  # the second time from what was written
        every = list(zip(documents.starts, documents.ends, strict=True))
        learnt = [documents.tokens[start:end][documents.learnt[start:end]].astype(int) for start, end in every]
        assert tokenizer.decode(np.concatenate(learnt), skip_special_tokens=True) == "Bob has 12 apples.Three é.\nAnn."
        documents = tokenize(Dataset.from_dict(rows), tokenizer, CONTEXT, tmp_path)


def test_pieces_of_which_nothing_is_learnt_are_left_out(tokenizer, tmp_path):
    text = "Ann has 3 pears. " * 40 + "Bob"
    documents = tokenize(Dataset.from_dict({"text": [text], "given": [[[0, len(text) - 3]]]}), tokenizer, CONTEXT, tmp_path)
    assert (documents.targets > 0).all()
    assert documents.ends.tolist() == [len(documents.tokens)]


def test_only_empty_documents_are_an_error(tokenizer, tmp_path):
    with pytest.raises(LifecycleError, match="every document is empty"):
        open_documents(tokenizer, ["", ""], tmp_path)


@given(
    lengths=st.lists(st.integers(1, CONTEXT), min_size=1, max_size=200).map(np.array),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 2),
    curriculum=st.booleans(),
    bucket_batches=st.integers(1, 5),
    batch_tokens=st.integers(CONTEXT, 200),
)
@settings(deadline=None)
def test_an_epoch_uses_each_piece_once_within_the_batch_size(
    lengths, seed, epoch, curriculum, bucket_batches, batch_tokens
):
    changes = dict(seed=seed, curriculum=curriculum, bucket_batches=bucket_batches, batch_tokens=batch_tokens)
    config = batching(configure("tiny", {"model.context_length": CONTEXT, **changes}))
    plan = plan_epoch(lengths, config, epoch)
    assert sorted(np.concatenate(plan)) == list(range(len(lengths)))
    assert all(0 < lengths[batch].sum() <= batch_tokens for batch in plan)
    again = plan_epoch(lengths, config, epoch)
    assert all(np.array_equal(one, other) for one, other in zip(plan, again, strict=True))


def test_a_curriculum_keeps_the_coarse_order_in_the_first_epoch_only():
    lengths = np.full(4000, 16)
    config = batching(configure("tiny", {"model.context_length": 32, "batch_tokens": 160, "bucket_batches": 8}))
    middle = lambda plan: np.array([batch.mean() for batch in plan])  # noqa: E731
    first, second = (middle(plan_epoch(lengths, config, epoch)) for epoch in (0, 1))
    steps = np.arange(len(first))
    assert np.corrcoef(first, steps)[0, 1] > 0.99
    assert abs(np.corrcoef(second, steps)[0, 1]) < 0.2


def test_a_position_is_enough_to_go_on(tokenizer, tmp_path):
    documents = open_documents(
        tokenizer, [f"Ann has {count} pears." * (1 + count % 4) for count in range(60)], tmp_path
    )
    stream = batches(documents, batching(CONFIG), Position())
    produced = [next(stream) for _ in range(30)]
    assert produced[-1][1].epoch > 0
    for index in (3, 11, 25):
        resumed = batches(documents, batching(CONFIG), produced[index - 1][1])
        for batch, position in produced[index:]:
            other, other_position = next(resumed)
            assert (batch.tokens == other.tokens).all() and position == other_position


def test_targets_are_the_next_tokens_and_nothing_is_padding(tokenizer, tmp_path):
    documents = open_documents(tokenizer, ["Ann has 3 pears.", "Bob", "Ann"], tmp_path)
    for batch, _ in itertools.islice(batches(documents, batching(CONFIG), Position()), 3):
        assert len(batch.tokens) == len(batch.targets) == batch.lengths.sum() == batch.count
        for tokens, targets in zip(*(x.split(batch.lengths.tolist()) for x in (batch.tokens, batch.targets)), strict=True):
            assert (tokens[1:] == targets[:-1]).all() and targets[-1] == tokenizer.eos_token_id
