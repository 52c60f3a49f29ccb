"""A model of hashes and a scheduler that runs on it, without a thread and with a clock of its own.

The model's next token is a hash of every token that it reads *through the block table*: a block that was freed too early,
shared wrongly or never filled changes the answer. So "batched == alone" tests the paging as well as the policy.
"""

from __future__ import annotations

import random
import zlib
from array import array
from collections import Counter

from serving.application.constraints import Constraints
from serving.application.ports import SequenceSlice
from serving.application.speculation import Speculation
from serving.domain.blocks import BlockPool
from serving.domain.config import SchedulerConfig
from serving.domain.events import Finished
from serving.domain.policies import BUILTIN, make_policy
from serving.domain.request import Request, SamplingParams
from serving.domain.scheduler import Scheduler
from serving.domain.sequence import Sequence

POLICIES = tuple(BUILTIN)
VOCAB = 97
BLOCK = 4


def next_token(tokens) -> int:
    return zlib.crc32(array("q", tokens).tobytes()) % VOCAB


def alone(prompt, count) -> list[int]:
    """The answer that the model gives without batching, paging or policies."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


class HashBackend:
    """A `ModelBackend` in the standard library. A slot holds the token and the position that was written last."""

    vocab_size = VOCAB
    shares_prefixes = True
    can_rewind = True
    goes_ahead = False

    def __init__(self, num_blocks: int, block_size: int = BLOCK) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._slots: dict[int, tuple[int, int]] = {}

    def execute(self, batch: list[SequenceSlice]) -> list[int]:
        for item in batch:
            for position, token in enumerate(item.tokens, item.start):
                self._slots[self._slot(item, position)] = (token, position)
        return [self._read(item, count) for item in batch for count in self._wanted(item)]

    def seconds(self) -> dict[str, float]:
        return {}

    def release(self, sequence_id: str) -> None:
        pass

    def update_weights(self, state_dict) -> None:
        self._slots.clear()

    @staticmethod
    def _wanted(item: SequenceSlice) -> range:
        stop = item.start + len(item.tokens)
        return range(stop - item.num_logits + 1, stop + 1)

    def _read(self, item: SequenceSlice, count: int) -> int:
        """What follows the first `count` tokens."""
        held = [self._slots[self._slot(item, position)] for position in range(count)]
        assert [position for _, position in held] == list(range(len(held))), "a block of somebody else"
        return next_token([token for token, _ in held])

    def _slot(self, item: SequenceSlice, position: int) -> int:
        return item.block_table[position // self.block_size] * self.block_size + position % self.block_size


class HashSampler:
    """A `Sampler` for it: the logits are the token."""

    def sample(self, logits, draws):
        return list(logits)


class Driver:
    """Submits, cancels and steps; after every step it checks what must hold at any time."""

    def __init__(self, policy: str = "mixed-chunked", num_blocks: int = 32, drafter=None, **knobs) -> None:
        defaults = {"max_num_seqs": 4, "max_num_batched_tokens": 16, "expected_output": 4, "speculative_max_seqs": 4}
        knobs = {**defaults, **knobs}
        self.config = SchedulerConfig(policy=policy, block_size=BLOCK, num_blocks=num_blocks, **knobs)
        self.backend = HashBackend(num_blocks)
        pool = BlockPool(num_blocks, BLOCK, on_close=self._release)
        self.scheduler = Scheduler(self.config, make_policy(policy, self.config), pool)
        self.speculation = None if drafter is None else Speculation(drafter, self.scheduler, self.config, Constraints())
        self.now = 1.0
        self.asked: dict[str, Sequence] = {}
        self.answers: dict[str, list[int]] = {}
        self.ends: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.cached: dict[str, int] = {}
        self.first_token: dict[str, float] = {}
        self.served: Counter[str] = Counter()  # tokens by tenant

    def submit(self, prompt, max_tokens=4, *, name=None, **options) -> str:
        name = str(len(self.asked)) if name is None else name
        request = Request(name, tuple(prompt), SamplingParams(max_tokens=max_tokens), self.now, **options)
        self.asked[name] = Sequence(request, arrival=self.now, seed=0, block_size=BLOCK)
        self.answers[name] = []
        self.scheduler.add(self.asked[name])
        return name

    def cancel(self, name: str) -> None:
        self._book(self.scheduler.finish(name, "cancelled"))

    def swap(self, policy: str) -> None:
        self.scheduler.policy = make_policy(policy, self.config)

    @property
    def busy(self) -> bool:
        return bool(self.scheduler.num_waiting or self.scheduler.num_running)

    def step(self):
        """One step, as long as a small machine would take for it; returns its report."""
        scheduler = self.scheduler
        self._book(scheduler.expire(self.now))
        work = scheduler.schedule(self.now)
        assert work or not self.busy, "work waits, nothing runs"
        assert sum(item.count for item in work) <= scheduler.limits.max_num_batched_tokens
        assert scheduler.num_running <= scheduler.limits.max_num_seqs
        if self.speculation is not None:
            before = scheduler.counters.preemptions
            work = self.speculation.extend(work)
            assert sum(item.size for item in work) <= scheduler.limits.max_num_batched_tokens
            assert scheduler.counters.preemptions == before, "guesses took somebody's memory"
        batch = [
            SequenceSlice(
                s.id,
                [*s.tokens[start : start + count], *drafts],
                start,
                scheduler.pool.table(s.id),
                samples + len(drafts),
            )
            for s, start, count, _, samples, drafts, _ in work
        ]
        start, tokens = self.now, sum(item.size for item in work)
        self.now += 0.002 + 0.0005 * tokens + 1e-6 * sum(item.start + item.size for item in work)
        self._book(scheduler.complete(work, self.backend.execute(batch)))
        report = scheduler.report(work, start, self.now - start)
        for item in report.work:
            self.served[item.tenant] += item.tokens
        scheduler.policy.observe(report)
        pool = scheduler.pool
        assert pool.free + pool.used + pool.cached == pool.total
        return report

    def finish(self, limit: int = 20_000) -> None:
        """Steps until everybody has ended."""
        for _ in range(limit):
            if not self.busy:
                return
            self.step()
        raise AssertionError(f"no end after {limit} steps")

    def check(self) -> None:
        """At the end: one terminal event each, the answers of the model alone, and no block left behind."""
        assert not self.busy and self.scheduler.pool.used == 0
        assert self.ends == Counter(dict.fromkeys(self.asked, 1))
        for name, sequence in self.asked.items():
            request, answer = sequence.request, self.answers[name]
            if self.reasons[name] == "length":
                assert len(answer) == request.sampling.max_tokens
            assert answer == alone(request.prompt_tokens, len(answer))

    def _release(self, name: str) -> None:
        if self.speculation is not None:
            self.speculation.release(name)

    def _book(self, events) -> None:
        for event in events:
            assert not self.ends[event.request_id], "an event after the end"
            if isinstance(event, Finished):
                self.ends[event.request_id] += 1
                self.reasons[event.request_id] = event.reason
                self.cached[event.request_id] = event.cached_tokens
            else:
                self.answers[event.request_id] += event.tokens
                self.first_token.setdefault(event.request_id, self.now)


def prompt_of(family: int, length: int) -> list[int]:
    """Prompts of one family begin alike, so that the prefix cache has something to find."""
    return [random.Random(family * 1000 + position // 6).randrange(VOCAB) for position in range(length)]
