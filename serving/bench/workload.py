"""Workloads: who asks when, for how much, and whose prompts begin alike.

A `Job` says what matters to a scheduler; `Job.tokens` makes a prompt of it. Sources are the names of vLLM's
benchmark where it has them: `random`, `prefix-repetition`, and `recorded`, which is what a real server saw.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from serving.application.recording import PREFIX_BLOCK, Recording

FIRST_TOKEN, LAST_TOKEN = 3, 255
"""Prompts over HTTP are made of these ids, which every tokenizer has; the ones below are usually special."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request to come. `arrival` in seconds after the start; `prefix` holds one content id per leading block."""

    number: int
    arrival: float
    prompt_tokens: int
    output_tokens: int
    tenant: str = "default"
    priority: int = 0
    deadline: float | None = None
    """Seconds after the start."""
    prefix: tuple[int, ...] = ()

    def tokens(self) -> tuple[int, ...]:
        """A prompt of small token ids: equal content ids give equal blocks, everything else is the job's own."""
        prompt: list[int] = []
        for content in self.prefix:
            prompt += _draw(f"prefix {content}", PREFIX_BLOCK)
        del prompt[self.prompt_tokens :]
        return tuple(prompt + _draw(f"job {self.number}", self.prompt_tokens - len(prompt)))

    def symbols(self) -> tuple[int, ...]:
        """The same in numbers that no tokenizer has: ten times as quick, for a simulation without a model."""
        prompt: list[int] = []
        for content in self.prefix:
            prompt += range(content * PREFIX_BLOCK, (content + 1) * PREFIX_BLOCK)
        del prompt[self.prompt_tokens :]
        own = -(self.number + 1) * 2**24  # prompts are shorter than that, so no two jobs meet
        return (*prompt, *range(own, own + self.prompt_tokens - len(prompt)))


@dataclass(frozen=True, slots=True)
class Lengths:
    """Prompt and answer lengths in tokens: uniform within +-`spread` (0 to 1) of the given ones, never below 1."""

    prompt: int = 128
    output: int = 64
    spread: float = 0.0

    def draw(self, rng: random.Random) -> tuple[int, int]:
        return self._around(rng, self.prompt), self._around(rng, self.output)

    def _around(self, rng: random.Random, length: int) -> int:
        if not self.spread:
            return length
        return max(1, rng.randint(math.floor(length * (1 - self.spread)), math.ceil(length * (1 + self.spread))))


@dataclass(frozen=True, slots=True)
class Traffic:
    """When requests come, and from whom: a Poisson process by default.

    `burstiness` is the shape of the gamma distribution of the gaps (1: Poisson, less: burstier), as in vLLM. `tenants`
    are relative shares: (10, 1) is one tenant that asks ten times as often as the other.
    """

    rate: float = math.inf
    """Requests per second; infinite: all at once."""
    burstiness: float = 1.0
    tenants: tuple[float, ...] = (1.0,)
    priorities: int = 1
    """Priorities are drawn uniformly from 0 to this, exclusively."""

    def arrivals(self, rng: random.Random) -> Iterator[float]:
        now = 0.0
        while True:
            yield now
            if not math.isinf(self.rate):
                now += rng.gammavariate(self.burstiness, 1 / (self.rate * self.burstiness))

    def who(self, rng: random.Random) -> tuple[str, int]:
        """(tenant, priority)."""
        (tenant,) = rng.choices(range(len(self.tenants)), self.tenants) if len(self.tenants) > 1 else (0,)
        return f"tenant-{tenant}", rng.randrange(self.priorities) if self.priorities > 1 else 0


def random_jobs(count: int, lengths: Lengths, traffic: Traffic, seed: int = 0) -> Iterator[Job]:
    """Prompts that have nothing in common."""
    rng = random.Random(seed)
    for number, arrival in zip(range(count), traffic.arrivals(rng), strict=False):
        yield Job(number, arrival, *lengths.draw(rng), *traffic.who(rng))


def prefix_repetition_jobs(
    count: int, lengths: Lengths, traffic: Traffic, *, prefix_tokens: int, num_prefixes: int = 1, seed: int = 0
) -> Iterator[Job]:
    """Prompts that begin with one of `num_prefixes` texts of `prefix_tokens` (whole blocks of 16) before their own part.

    `lengths.prompt` is the length of the own part. A text belongs to one tenant, as caches never cross tenants.
    """
    rng = random.Random(seed)
    blocks = prefix_tokens // PREFIX_BLOCK
    for number, arrival in zip(range(count), traffic.arrivals(rng), strict=False):
        own, output = lengths.draw(rng)
        first = rng.randrange(num_prefixes) * blocks
        prefix = tuple(range(first, first + blocks))
        yield Job(number, arrival, blocks * PREFIX_BLOCK + own, output, *traffic.who(rng), prefix=prefix)


def recorded_jobs(recording: Recording, *, speed: float = 1.0) -> list[Job]:
    """What a server was asked, from its first request on; `speed` 2 lets it arrive in half the time.

    Answers are as long as they were. What the recording does not know is invented: prompts that continue an earlier
    *answer* (the next turn of a chat) share only what the earlier prompt had.
    """
    requests = sorted(recording.requests, key=lambda request: request.arrival)
    start = requests[0].arrival if requests else 0.0
    return [
        Job(
            number=request.number,
            arrival=(request.arrival - start) / speed,
            prompt_tokens=request.prompt_tokens,
            output_tokens=_answer(request.output_tokens, request.reason),
            tenant=request.tenant,
            priority=request.priority,
            deadline=None if request.deadline is None else (request.deadline - start) / speed,
            prefix=request.prefix,
        )
        for request in requests
        if request.reason in ("length", "stop")
    ]


def with_rate(jobs: Sequence[Job], traffic: Traffic, seed: int = 0) -> list[Job]:
    """The same requests in the same order, arriving as `traffic` says."""
    rng = random.Random(seed)
    return [replace(job, arrival=arrival) for job, arrival in zip(jobs, traffic.arrivals(rng), strict=False)]


def _answer(output_tokens: int, reason: str | None) -> int:
    """A stop token is computed like any other, but not counted."""
    return max(1, output_tokens + (reason == "stop"))


def _draw(seed: str, count: int) -> list[int]:
    return random.Random(seed).choices(range(FIRST_TOKEN, LAST_TOKEN + 1), k=count)
