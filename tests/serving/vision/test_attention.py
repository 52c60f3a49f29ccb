"""Where a model looked: transformers' own weights for the answer that the engine gave, at the right places of the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from serving.application.attention import ShowAttention
from serving.domain.errors import AttentionUndefined, ContextLengthExceeded, InvalidRequest
from serving.domain.media import Media
from serving.infrastructure.vision.embeddings import PictureEmbeddings
from serving.infrastructure.vision.grids import WHOLE, laid
from serving.infrastructure.vision.tokenizer import VisionTokenizer

from .conftest import Seeing, chat, picture
from .families import FAMILIES

SIZES = {"upright": (40, 30), "wide": (20, 44), "square": (32, 32), "tall": (60, 20)}


def shown(family: Seeing, asked, answer, layers=None):
    command = ShowAttention(asked, answer, layers)
    prompt, tokens = command.read(family.served)
    pictures = command.pictures(family.served, prompt)
    count, glances = command.glances(family.served, prompt, tokens, pictures)
    assert count == family.model.config.get_text_config().num_hidden_layers
    return prompt, pictures, glances


def expected(family: Seeing, asked, answer) -> torch.Tensor:
    """[layers, heads, answer tokens, prompt + answer] by transformers alone, from pictures to weights."""
    images = [Image.fromarray(frame) for one in asked.media for frame in one.frames]
    inputs = family.processor(
        text=[asked.text(family.served)], images=[images], return_tensors="pt", add_special_tokens=False
    )
    start = inputs["input_ids"].shape[1]
    inputs = {name: one for name, one in inputs.items() if name not in ("rows", "cols")}
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([answer])], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for name in ("mm_token_type_ids", "token_type_ids"):
        if name in inputs:
            inputs[name] = torch.nn.functional.pad(inputs[name], (0, len(answer)))
    before = family.model.config._attn_implementation
    family.model.set_attn_implementation("eager")
    with torch.inference_mode():
        weights = family.model(**inputs, output_attentions=True, use_cache=False).attentions
    family.model.set_attn_implementation(before)
    return torch.stack(weights)[:, 0, :, start - 1 : -1]


def test_weights_are_those_of_the_model_for_the_answer_it_gave(family):
    asked = chat("is ", picture(61), " like ", picture(62, 20, 44), "?")
    [answer] = family.answers(asked)
    prompt, _, glances = shown(family, asked, tuple(answer))
    assert [one.token for one in glances] == answer
    rows = family.served.gaze(prompt, answer)
    torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows, expected(family, asked, answer).mean(1), atol=1e-5, rtol=0)
    one_layer = shown(family, asked, tuple(answer), (1,))[2]
    assert [one.share for one in one_layer] == pytest.approx(shares(family, prompt, rows[1]))
    for one, share in zip(glances, shares(family, prompt, rows.mean(0)), strict=True):
        told = sum(weight for pictures in one.weights for grid in pictures for weight in grid)
        assert one.share == pytest.approx(share) and 0 < told <= one.share + 1e-6 <= 1


def shares(family: Seeing, prompt, rows) -> list[float]:
    """Of each row, what lies on placeholders."""
    return rows[:, : len(prompt.tokens)][:, torch.tensor(prompt.tokens) == family.model.config.image_token_id].sum(-1).tolist()


def test_a_text_and_its_tokens_are_the_same_answer(family):
    asked = chat(picture(63), "what is it?")
    by_text = shown(family, asked, "a cup")[2]
    assert by_text == shown(family, asked, tuple(one.token for one in by_text))[2]
    assert "".join(one.text for one in by_text) == "a cup"


def test_pictures_are_told_in_their_order(family):
    first, second = picture(64, 20, 44), picture(65, 40, 30)
    _, pictures, _ = shown(family, chat("a", first, "b", second), "c")
    assert [(one.part, one.frame, one.height, one.width) for one in pictures] == [(0, 0, 20, 44), (1, 0, 40, 30)]
    assert all(one.thumbnail is None for one in pictures)


@pytest.mark.parametrize("size", SIZES)
def test_every_token_lies_where_its_embedding_comes_from(family, size):
    """Where a picture is changed, the token there changes most: in all tiles, whatever is resized, cut or padded."""
    height, width = SIZES[size]
    base = np.full((height, width, 3), 120, dtype=np.uint8)
    see = PictureEmbeddings(family.model, 2**20)

    def look(pixels):
        prompt = chat(Media("image", "plain", (pixels,))).prompt(family.served)
        [rows] = [one.rows for one in see.of(prompt.media).values()]
        return prompt, rows

    prompt, before = look(base)
    grids = family.served.gaze.grids(Media("image", "plain", (base,)), prompt, 0)
    told = [number for grid in grids for number in grid.numbers]
    assert len({*told}) == len(told) <= prompt.media[0].size
    hits = tried = 0
    for grid in grids:
        for row in range(grid.rows):
            for column in range(grid.columns):
                left, top, right, bottom = grid.box
                x = (left + (column + 0.5) * (right - left) / grid.columns) * width
                y = (top + (row + 0.5) * (bottom - top) / grid.rows) * height
                if not (0 <= x < width and 0 <= y < height):
                    continue  # a margin
                half_x = max(1.0, abs(right - left) * width / grid.columns * 0.3)
                half_y = max(1.0, abs(bottom - top) * height / grid.rows * 0.3)
                changed = base.copy()
                changed[max(0, round(y - half_y)) : round(y + half_y), max(0, round(x - half_x)) : round(x + half_x)] = 255
                _, after = look(changed)
                numbers = grid.numbers
                change = (after - before)[numbers].norm(dim=-1)
                hits += numbers[int(change.argmax())] == grid.first + row * grid.step + column
                tried += 1
    assert tried and hits / tried > 0.8, f"{hits} of {tried}"


def test_a_picture_beside_another_lies_where_it_is_shown_then(tmp_path):
    """LLaVA-OneVision pads it to a square; alone it is stretched to one."""
    tokenizer = VisionTokenizer(FAMILIES["llava_onevision"].save(tmp_path))

    def box(*pictures):
        placed = tokenizer.place(tokenizer.mark * len(pictures), pictures).media[0]
        return tokenizer.grids.of(20, 44, placed.inputs, placed.size)[0].box

    assert box(picture(69, 20, 44)) == pytest.approx(WHOLE, abs=0.15)
    assert box(picture(69, 20, 44), picture(70)) == pytest.approx((0, -0.6, 1, 1.6), abs=0.15)


def test_frames_of_a_clip_are_told_one_by_one(idefics):
    frames = tuple(picture(seed, 24, 32).frames[0] for seed in range(3))
    clip = Media("video", "three", frames, (0.0, 0.5, 1.0))
    _, pictures, glances = shown(idefics, chat(picture(66), clip, "what happens?"), "it moves")
    assert [(one.part, one.frame, one.time) for one in pictures] == [(0, 0, 0.0), (1, 0, 0.0), (1, 1, 0.5), (1, 2, 1.0)]
    assert [one.thumbnail is not None for one in pictures] == [False, True, True, True]
    assert all(len(one.weights) == 4 for one in glances)


def test_what_cannot_be_told_is_refused(idefics, family):
    asked = chat(picture(67), "what?")
    with pytest.raises(InvalidRequest, match="no picture"):
        ShowAttention(chat("what?"), "a cup").read(family.served)
    with pytest.raises(ContextLengthExceeded):
        ShowAttention(asked, "x" * 600).read(family.served)
    with pytest.raises(InvalidRequest, match="none of a picture"):
        ShowAttention(asked, (family.model.config.image_token_id,)).read(family.served)
    with pytest.raises(InvalidRequest, match="has 3, from 0"):
        shown(family, asked, "a", layers=(0, 3))


def test_tokens_that_lie_in_no_rows_are_refused():
    assert laid(6, 4, 6, WHOLE, 0).rows == 2
    with pytest.raises(AttentionUndefined):
        laid(7, 4, 6, WHOLE, 0)


def test_families_are_all_of_them():
    assert {"idefics3", "smolvlm", "llava_onevision", "qwen2_5_vl", "qwen3_vl"} <= {*FAMILIES}


def test_weights_are_those_of_a_decoder_written_out(idefics):
    """Rotary attention by hand, on what the tower makes of a picture."""
    model, asked = idefics.model.model.text_model, chat(picture(68), "what is it?")
    prompt, _, glances = shown(idefics, asked, "a cup")
    tokens = [*prompt.tokens, *(one.token for one in glances)]
    x = model.embed_tokens(torch.tensor(tokens))
    [placed] = prompt.media
    at = [place for start, stop in placed.spans for place in range(start, stop)]
    x[at] = PictureEmbeddings(idefics.model, 2**20).of([placed])[placed.digest].rows
    count, width = len(tokens), model.config.head_dim
    turns = torch.arange(count)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)  # [tokens, width / 2]
    cos, sin = turns.cos().repeat(1, 2), turns.sin().repeat(1, 2)

    def rotated(heads):  # [heads, tokens, width]
        low, high = heads.chunk(2, -1)
        return heads * cos + torch.cat([-high, low], -1) * sin

    causal = torch.full((count, count), -torch.inf).triu(1)
    means = []
    for layer in model.layers:
        own, h = layer.self_attn, layer.input_layernorm(x)
        q, k, v = (one(h).unflatten(-1, (-1, width)).transpose(0, 1) for one in (own.q_proj, own.k_proj, own.v_proj))
        k, v = (one.repeat_interleave(len(q) // len(k), 0) for one in (k, v))
        weights = (rotated(q) @ rotated(k).transpose(1, 2) / width**0.5 + causal).softmax(-1)
        x = x + own.o_proj((weights @ v).transpose(0, 1).flatten(1))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
        means.append(weights.mean(0)[len(prompt.tokens) - 1 : -1])
    by_hand = torch.stack(means)
    torch.testing.assert_close(idefics.served.gaze(prompt, [one.token for one in glances]), by_hand, atol=1e-5, rtol=0)
