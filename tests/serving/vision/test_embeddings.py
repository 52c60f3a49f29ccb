"""What the vision tower makes of pictures: the same together as alone, from the cache as computed, and bounded."""

from __future__ import annotations

import torch

from serving.infrastructure.vision.embeddings import PictureEmbeddings

from .conftest import chat, picture

LARGE = 2**20


def placed(family, *seeds):
    return [chat(picture(seed)).prompt(family.served).media[0] for seed in seeds]


def same(one, other) -> bool:
    pairs = zip((one.rows, *one.layers), (other.rows, *other.layers), strict=True)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_together_as_alone_and_from_the_cache_as_computed(family):
    pictures = placed(family, 1, 2, 3)
    together = PictureEmbeddings(family.model, LARGE)
    found = together.of(pictures)
    for one in pictures:
        alone = PictureEmbeddings(family.model, LARGE).of([one])[one.digest]
        assert len(alone.rows) == one.size
        assert same(found[one.digest], alone)
    again = together.of(reversed(pictures))
    assert together.encoded == 3
    assert all(again[name] is found[name] for name in found)


def test_one_content_is_encoded_once_whoever_shows_it(family):
    pictures = placed(family, 1, 1, 2, 1)
    embeddings = PictureEmbeddings(family.model, LARGE)
    assert len(embeddings.of(pictures)) == 2
    assert embeddings.encoded == 2


def test_the_cache_keeps_those_used_last(family):
    first, second, third = placed(family, 1, 2, 3)
    size = PictureEmbeddings(family.model, LARGE).of([first])[first.digest].nbytes
    embeddings = PictureEmbeddings(family.model, 2 * size)
    for one in (first, second, first, third, first):
        embeddings.of([one])
    assert embeddings.nbytes <= 2 * size
    assert embeddings.encoded == 3
    embeddings.of([second])
    assert embeddings.encoded == 4


def test_without_a_cache_nothing_is_kept(family):
    embeddings = PictureEmbeddings(family.model, 0)
    (one,) = placed(family, 1)
    assert one.digest in embeddings.of([one])
    assert embeddings.nbytes == 0
