"""Where the projection starts: what a part shows is said in vectors that are most like those of the words that are true of it.

All words that are true of a part, added up, are a bad target for a linear layer: most of such a sum is the same for every part,
and of what tells a cat from a dog least squares keeps next to nothing. What counts is which word of a topic a vector is most like, for this is what the
language model's own output layer goes by; so the start is fitted as the tower was trained, topic by topic with a softmax, against words that stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lifecycle.see.contrastive import NEVER, held_out_of
from lifecycle.world.sights.grounded import NOTHING, TOPICS, UNSAID

STEPS, BATCH, LR, DECAY = 600, 1024, 3e-3, 0.03
RIDGE = 1e-3
"""Of the variance of a part's states, which is about 1."""
AT_ONCE = 2.0
"""How long what is said of a part is, beside what one word says: several things are said at once."""


def projection(states: Tensor, parts: Tensor, words: Tensor, embeddings: Tensor, seed: int) -> Tensor:
    """Weights [hidden_size, inputs] of a linear layer from parts' states to what a language model reads.

    states: [N, inputs]. parts: which words are true of them, `about_parts`, [N, topics]. words: a table of `words_of`.
    embeddings: of all tokens, [vocabulary, hidden_size]; they say how long vectors are, and what all have in common.
    """
    told = fit(states, parts, words, seed)  # [inputs, hidden_size]
    common = embeddings.mean(0)
    own = (embeddings - common).norm(dim=1).mean()
    shown = parts[:, 0] != NOTHING
    told *= AT_ONCE * own / (states[shown] @ told).norm(dim=1).mean()
    gram = states.T @ states + RIDGE * len(states) * torch.eye(states.shape[1])
    always = torch.linalg.solve(gram, states.sum(0))  # with which every part's states make about 1
    return (told + torch.outer(always, common)).T


def fit(states: Tensor, parts: Tensor, words: Tensor, seed: int) -> Tensor:
    """A linear map [inputs, hidden_size] to vectors of which, in each topic, the true word's is the likeliest."""
    generator = torch.Generator().manual_seed(seed)
    topics = [_apart(some) for some in words.split([len(some) + 1 for some in TOPICS.values()])]
    weight = torch.zeros(states.shape[1], words.shape[1]).normal_(0.0, 0.1 * states.shape[1] ** -0.5, generator=generator).requires_grad_()
    sharpness = torch.zeros(len(topics), requires_grad=True)
    optimizer = torch.optim.AdamW([{"params": [weight], "weight_decay": DECAY}, {"params": [sharpness], "weight_decay": 0.0}])
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - step / STEPS)
        some = torch.randint(len(states), (BATCH,), generator=generator)
        said = states[some] @ weight  # [BATCH, hidden_size]
        loss = said.new_zeros(())
        for number, (topic, rows) in enumerate(zip(TOPICS, topics, strict=True)):
            logits = sharpness[number].exp() * (said @ rows.T)
            if (never := held_out_of(topic, parts[some])) is not None:
                logits = logits.masked_fill(never, NEVER)
            loss = loss + F.cross_entropy(logits, parts[some, number], ignore_index=UNSAID, reduction="sum") / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach()


def _apart(words: Tensor) -> Tensor:
    """A topic's words without what all of them have in common, at length 1; "nothing", the first, stays zero."""
    own = words[1:] - words[1:].mean(0)
    return torch.cat((torch.zeros_like(words[:1]), F.normalize(own, dim=1)))
