"""The projection begins as a linear layer that says what parts show, in the language model's own vectors."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lifecycle.see.beginning import AT_ONCE, projection
from lifecycle.see.contrastive import words_of
from lifecycle.world.sights.grounded import TOPICS, UNSAID

SIZE, INPUTS = 64, 256


def embeddings() -> torch.Tensor:
    """Rows that have much in common, as those of a language model."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(SIZE, generator=generator) + torch.randn(256, SIZE, generator=generator)


def test_a_part_is_most_like_the_words_that_are_true_of_it():
    generator = torch.Generator().manual_seed(2)
    words = words_of(embeddings(), lambda text: list(text.encode()))
    parts = torch.full((3000, len(TOPICS)), UNSAID)
    shows = {"name": 12, "colour": 8, "row": 3}  # of how many words of a topic
    states = torch.ones(len(parts), INPUTS) * torch.randn(INPUTS, generator=generator)
    for topic, number in shows.items():
        true = torch.randint(1, number + 1, (len(parts),), generator=generator)
        parts[:, list(TOPICS).index(topic)] = true
        states += torch.randn(number + 1, INPUTS, generator=generator)[true]
    weight = projection(states, parts, words, embeddings(), seed=0)
    said = states @ weight.T
    assert weight.shape == (SIZE, INPUTS)
    tables = dict(zip(TOPICS, words.split([len(some) + 1 for some in TOPICS.values()]), strict=True))
    for topic, number in shows.items():
        rows = F.normalize(tables[topic][1:] - tables[topic][1:].mean(0), dim=1)
        right = (said @ rows.T)[:, :number].argmax(-1) + 1 == parts[:, list(TOPICS).index(topic)]
        assert right.float().mean() > 0.95, topic


def test_it_is_as_long_as_what_language_models_read_and_has_what_all_words_have():
    states = torch.randn(2000, INPUTS, generator=torch.Generator().manual_seed(3))
    states[:, 0] = 3.0  # the same for all, as something is in what a tower finds
    parts = torch.full((len(states), len(TOPICS)), UNSAID)
    parts[:, 0] = torch.randint(1, len(TOPICS["name"]) + 1, (len(states),), generator=torch.Generator().manual_seed(4))
    rows = embeddings()
    said = states @ projection(states, parts, words_of(rows, lambda text: list(text.encode())), rows, seed=0).T
    common = rows.mean(0)
    assert F.cosine_similarity(said.mean(0), common, dim=0) > 0.75
    torch.testing.assert_close((said - common).norm(dim=1).mean(), AT_ONCE * (rows - common).norm(dim=1).mean(), rtol=0.2, atol=0)
