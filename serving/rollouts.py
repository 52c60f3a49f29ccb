"""The engine that serves people, sampling for reinforcement learning: a `RolloutEngine` of lifecycle.rlhf."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from lifecycle.errors import LifecycleError
from lifecycle.rlhf.rollouts import Rollout
from serving.application.engine import EngineLoop
from serving.application.ports import TokenStream
from serving.domain.errors import ServingError
from serving.domain.events import Finished, TokensGenerated
from serving.domain.request import GREEDY_BELOW, Request, SamplingParams
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.loading import load_backend
from serving.infrastructure.native.weights import check_numbers
from serving.infrastructure.sampler import RolloutSampler
from serving.infrastructure.tokenizer import HFTokenizer

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "auto": "auto"}
KV_MEMORY_MB = 512
MULTI_STEP_SECONDS = 0.02
"""Of tokens that are drawn before it is asked whose answer has ended: what is computed for one that has is lost."""
TICK = 5.0
"""Seconds between two looks at whether the engine still works."""


class EngineRollouts:
    """`sequences` answers at a time by continuous batching, on the native kernels where they can be."""

    def __init__(self, directory: Path, *, dtype: str, sequences: int, backend: str = "auto") -> None:
        config = ServingConfig(
            backend=backend,
            dtype=DTYPES[dtype],
            max_num_seqs=sequences,
            max_num_batched_tokens=max(4096, sequences),
            policy="continuous-batched-prefill",  # nobody waits for a single token: whole prompts, then answers alone, several tokens at a time
            multi_step_seconds=MULTI_STEP_SECONDS,
            queue_limit=1_000_000,
            kv_memory_mb=KV_MEMORY_MB,
        )
        self._numbers = count()
        self.backend = load_backend(directory, config)
        self._engine = EngineLoop(
            self.backend,
            RolloutSampler(),
            config,
            context_length=HFTokenizer(directory).context_length,
        ).start()

    def update_weights(self, state_dict: Mapping[str, Any]) -> None:
        for name, weight in state_dict.items():
            check_numbers(name, weight)
        self._engine.update_weights(state_dict)

    def sample(
        self, prompts: Sequence[Sequence[int]], *, max_tokens: int, temperature: float, stop: Iterable[int], seed: int
    ) -> list[Rollout]:
        stops = frozenset(stop)

        def request(place: int, prompt: Sequence[int]) -> Request:
            sampling = SamplingParams(
                temperature=temperature,
                max_tokens=max_tokens,
                stop_token_ids=stops,
                keep_stop_token=True,
                seed=(seed << 32) + place,
                logprobs=0 if temperature < GREEDY_BELOW else None,  # what is drawn comes with its log-probability
            )
            return Request(f"rollout-{next(self._numbers)}", tuple(prompt), sampling)

        self._engine.pause()  # all are there before the first step
        try:
            streams = [self._engine.submit(request(place, prompt)) for place, prompt in enumerate(prompts)]
        except ServingError as error:
            raise LifecycleError(f"a prompt cannot be answered: {error.message}; try a lower --set grpo_tokens=") from None
        finally:
            self._engine.resume()
        return [self._read(stream) for stream in streams]

    def _read(self, stream: TokenStream) -> Rollout:
        answer = Rollout([], [])
        while True:
            for event in stream.next(TICK):
                if isinstance(event, TokensGenerated):
                    answer.tokens.extend(event.tokens)
                    answer.logprobs.extend(one.logprob for one in event.logprobs)
                elif isinstance(event, Finished):
                    if event.reason not in ("stop", "length"):
                        raise LifecycleError(f"an answer could not be sampled: {event.error or event.reason}; try a lower --set lr=")
                    return answer
            if not self._engine.healthy():
                raise LifecycleError("the engine that samples has stopped working: its log has the details, or try --set rollouts=generate")

    def close(self) -> None:
        self._engine.close()
