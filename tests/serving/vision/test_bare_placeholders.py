"""A tokenizer without its family's markers: a picture is its placeholders and nothing else."""

from __future__ import annotations

import torch
from transformers import AutoTokenizer

from serving.composition import ServingConfig, build_engine
from serving.infrastructure.vision.architecture import load_seeing

from .conftest import CONFIG, TOKENS, Seeing, chat, picture
from .families import FAMILIES, IDS

OWN = "<|image_pad|>"


def test_pictures_are_placeholders_only(tmp_path):
    family = FAMILIES["idefics3"]
    type(family)(
        "idefics3", {**family.settings, "image_token_id": IDS[OWN]}, family.pictures, family.processor, OWN
    ).save(tmp_path)
    strange = {"<image>": "<a>", "<fake_token_around_image>": "<b>", "<global-img>": "<c>", "<end_of_utterance>": "<d>"}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (tmp_path / name).read_text()
        for known, other in strange.items():
            text = text.replace(known, other)
        (tmp_path / name).write_text(text)
    served = build_engine(tmp_path, ServingConfig(**CONFIG))
    model = load_seeing(tmp_path, torch.float32)
    asked = chat("what? ", picture(1))
    prompt = asked.prompt(served)
    (placed,) = prompt.media
    assert placed.spans == ((placed.start, placed.start + 5 * 4),), "one picture and four tiles"
    text = AutoTokenizer.from_pretrained(tmp_path).encode(asked.text(served), add_special_tokens=False)
    at = text.index(IDS[OWN])
    assert list(prompt.tokens) == [*text[:at], *[IDS[OWN]] * placed.size, *text[at + 1 :]]
    output = model.generate(
        input_ids=torch.tensor([prompt.tokens]), **placed.inputs, max_new_tokens=TOKENS, do_sample=False, pad_token_id=1
    )
    assert Seeing(model, None, served).answers(asked) == [output[0, len(prompt.tokens) :].tolist()]
    assert max(served.tokenizer.encode("<image> and <end_of_utterance>")) < served.tokenizer.vocab_size
    served.engine.close()
