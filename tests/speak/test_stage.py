"""The stage publishes what it trained, text is answered as before, and an interrupted run goes on where it was."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from sft.tiny import WORLD, same, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from lifecycle import deploy
from lifecycle.errors import LifecycleError
from lifecycle.evaluation import report
from lifecycle.model.checkpoint import load_checkpoint
from lifecycle.model.directory import CODEC_DIRECTORY, speaks
from lifecycle.model.widening import MULTIPLE
from lifecycle.speak import SpeakConfig, run
from lifecycle.speak import stage as stage_module
from lifecycle.speak.codec import CODES, SAMPLES_PER_CODE, Codec
from lifecycle.speak.data import written
from lifecycle.speak.speaker import Speaker
from lifecycle.speak.tokens import add_codes, code_token, extended
from lifecycle.world.conversations import sft_conversations
from lifecycle.world.speech import ANSWERER, recordings

CONFIG = SpeakConfig(codec_utterances=40, codec_rounds=2, utterances=24, batch=8, save_every=2, dtype="fp32")


@pytest.fixture(scope="module")
def conversations():
    return dict(zip(("conversations", "data"), sft_conversations(WORLD), strict=True))


@torch.inference_mode()
def test_before_training_text_is_answered_as_the_parent_answers_it(start):
    parent = Path(start.model("sft").path)
    before, words = load_checkpoint(parent), AutoTokenizer.from_pretrained(parent)
    text = "<|im_start|>user\nWhere is the ball?<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([words.encode(text)])
    first = add_codes(words, CODES)
    patterns = torch.randn(CODES, 320)
    patterns[7] = patterns[3] + 0.01
    wider = extended(before, first, patterns, 0).eval()
    assert words.encode(text) == ids[0].tolist()
    assert wider.config.vocab_size % MULTIPLE == 0 and wider.config.vocab_size >= len(words) == first + CODES
    rows = wider.model.embed_tokens.weight[first:]
    assert (rows[7] - rows[3]).norm() < 0.1 * (rows[8] - rows[3]).norm(), "what sounds alike begins alike"
    torch.testing.assert_close(wider(ids)[..., : before.config.vocab_size], before(ids), rtol=0, atol=1e-6)


def test_codes_are_tokens_that_text_does_not_show(start):
    words = AutoTokenizer.from_pretrained(start.model("sft").path)
    first = add_codes(words, CODES)
    ids = words.encode(written([0, 3]) + "Hello")
    assert ids[1:3] == [first, first + 3] and words.decode(ids, skip_special_tokens=True) == "Hello"
    assert words.convert_ids_to_tokens(first + CODES - 1) == code_token(CODES - 1)


def test_a_run_is_published_with_its_codec_and_not_repeated(start, conversations):
    parent = start.model("sft")
    version = run(CONFIG, start.registry, parent=parent, **conversations)
    assert version.ref == "speak/1" and speaks(version.path)
    assert [one.ref for one in version.manifest.parents] == ["sft/1", "codec/1"]
    assert start.registry.verify("speak/1") == [] == start.registry.verify("codec/1")
    assert start.workspaces() == []
    assert run(CONFIG, start.registry, parent=parent, **conversations).ref == "speak/1"
    longer = run(dataclasses.replace(CONFIG, utterances=32), start.registry, parent=parent, **conversations)
    assert [one.ref for one in longer.manifest.parents] == ["sft/1", "codec/1"]
    opened = AutoModelForCausalLM.from_pretrained(version.path)
    assert opened.config.vocab_size >= len(AutoTokenizer.from_pretrained(version.path))
    beside, published = Path(version.path) / CODEC_DIRECTORY, Path(start.registry.load("codec/1").path)
    assert torch.equal(Codec.load(beside).patterns, Codec.load(published).patterns)


def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(start, conversations, monkeypatch):
    parent = start.model("sft")
    whole = weights(run(CONFIG, start.registry, parent=parent, **conversations))
    (Path(start.registry.root) / "speak").rename(start.registry.root.parent / "away")
    real, calls = stage_module.forgotten, []

    def interrupted(*told):
        calls.append(told)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(*told)

    with monkeypatch.context() as patch:
        patch.setattr(stage_module, "forgotten", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(CONFIG, start.registry, parent=parent, **conversations)
    assert same(weights(run(CONFIG, start.registry, parent=parent, **conversations)), whole)


def test_it_hears_and_speaks_and_the_report_card_asks_it_to(start, conversations):
    version = run(CONFIG, start.registry, parent=start.model("sft"), **conversations)
    speaker = Speaker(version.path)
    sounds = [recordings(ANSWERER)[text] for text in ("Seven.", "Mary.")]
    replies = speaker.listen(sounds, longest=20)
    assert len(replies) == 2 and isinstance(replies[0].heard, str)
    assert speaker.sound([1, 2, 3]).shape == (3 * SAMPLES_PER_CODE,) and np.isfinite(speaker.sound([1, 2, 3])).all()
    skills = set(report([version], limit=1).skills())
    assert {"native_heard", "native_heard (unheard voice)", "native_spoken", "reading"} <= skills


def test_deployed_it_hears_as_before(start, conversations):
    version = run(CONFIG, start.registry, parent=start.model("sft"), **conversations)
    deployed = deploy.run(deploy.DeployConfig(target="fp32", report_limit=1), start.registry, parent=version)
    sounds = [recordings(ANSWERER)["Seven."]]
    assert Speaker(deployed.path).listen(sounds, longest=20) == Speaker(version.path).listen(sounds, longest=20)


def test_only_a_model_that_chats_learns_to_speak(start, conversations):
    with pytest.raises(LifecycleError, match="starts from"):
        run(CONFIG, start.registry, parent=start.model("pretrain"), **conversations)
