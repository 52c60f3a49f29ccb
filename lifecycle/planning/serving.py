"""What a machine will serve of a model: memory, tokens per second, people at once. From the shape alone; nothing is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lifecycle.planning.roofline import Machine, Work

GIB = 2**30
BITS = {"fp32": 32.0, "bf16": 16.0, "int8": 8.0, "gguf-f16": 16.0, "gguf-q8_0": 8.5, "gguf-q4_k": 4.5, "openvino": 16.0}
"""A weight of a layer takes, by target."""
HEAD_BITS = {**BITS, "int8": 16.0, "gguf-q4_k": 8.5}
"""And one of embeddings and head."""
SERVER_BYTES = 290e6
"""What the server's process takes before there is a model (benchmarks/plan_check.md); on a GPU its context takes about as much."""
USABLE = 0.9
"""Of the memory; the rest is for activations, fragments and the system."""
STEP_SECONDS, SEQUENCE_SECONDS, REQUEST_SECONDS = 1e-4, 1.1e-4, 2e-3
"""What a step takes however small the model is, what each sequence's piece takes to be told and sent over HTTP, and each request to be
read; fitted to a live server on one core (benchmarks/plan_check.md)."""
PASSES, PASSES_SECONDS = 32, 0.016
"""A server takes as many in one step while greedy answers only go on: for so long, and until one of them ends."""

StepTime = Callable[[float, float, float], float]
"""(tokens, keys and values read, sequences) to the seconds of a step."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine by its data sheet: bytes read in a second, dense bfloat16 operations in a second, bytes of memory."""

    machine: Machine
    memory_bytes: float
    source: str


HOSTS = {
    "h100": Host(Machine(3.35e12, 989e12), 80e9, "NVIDIA H100 SXM data sheet, dense bfloat16"),
    "a100": Host(Machine(2.039e12, 312e12), 80e9, "NVIDIA A100 80GB SXM data sheet, dense bfloat16"),
    "l4": Host(Machine(300e9, 121e12), 24e9, "NVIDIA L4 data sheet, dense bfloat16"),
}
"""GPUs that are often rented."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What people do."""

    prompt: int = 512
    """Tokens of a request."""
    answer: int = 128
    """Tokens of an answer."""
    pace: float = 10.0
    """Tokens per second that a reader wants at least."""
    pause: float = 30.0
    """Seconds between an answer and that person's next request."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a model on a machine."""

    weights: float
    per_position: float
    """Keys and values, in bfloat16."""

    @classmethod
    def of(cls, config: Any, target: str) -> Footprint:
        """Of a transformers config; embeddings that are the head as well count once."""
        work = Work.of(config)
        heads = work.head_weights * (1 if config.tie_word_embeddings else 2)
        return cls((work.layer_weights * BITS[target] + heads * HEAD_BITS[target]) / 8, work.kv_bytes)

    def streams(self, memory_bytes: float, positions: int) -> int:
        """Sequences of so many positions that fit at once."""
        free = USABLE * memory_bytes - self.weights - SERVER_BYTES
        return max(0, int(free // (self.per_position * positions)))


@dataclass(frozen=True, slots=True)
class Roofline:
    """Step times of an engine that reaches a share of what the machine allows (Williams et al., 2009), and of a server around it."""

    config: Any
    target: str
    machine: Machine
    reached: float
    answer: int
    """Tokens of an answer: of so many sequences one ends in every answer / sequences steps, and another one comes."""
    per_step: float = STEP_SECONDS
    per_sequence: float = SEQUENCE_SECONDS
    per_request: float = REQUEST_SECONDS

    def __call__(self, tokens: float, kv_read: float, sequences: float) -> float:
        """Seconds: weights are fetched once while they are multiplied, then keys and values are read, then pieces are sent, of several steps at once where
        that is possible, and requests read."""
        work = Work.of(self.config)
        fetch = Footprint.of(self.config, self.target).weights / self.machine.bytes_per_s
        multiply = 2 * (work.layer_weights * tokens + work.head_weights * sequences) / self.machine.flop_per_s
        computing = (max(fetch, multiply) + kv_read * work.kv_bytes / self.machine.bytes_per_s) / self.reached
        passes = max(1.0, min(PASSES, self.answer / sequences, PASSES_SECONDS / computing))
        return computing + (self.per_step + self.per_sequence * sequences) / passes + self.per_request * sequences / self.answer


@dataclass(frozen=True, slots=True)
class Load:
    """So many answers at once, in a steady state: for every answer that ends a prompt comes."""

    streams: int
    seconds: float
    """Of a step."""
    memory_bytes: float

    @property
    def each(self) -> float:
        """Tokens per second of one stream."""
        return 1 / self.seconds

    @property
    def together(self) -> float:
        """Tokens per second of all."""
        return self.streams / self.seconds


def load(streams: int, footprint: Footprint, step: StepTime, traffic: Traffic) -> Load:
    """Steps that decode one token of each stream and read as many prompt tokens as must follow."""
    positions = traffic.prompt + traffic.answer
    tokens = streams * (1 + traffic.prompt / traffic.answer)
    seconds = step(tokens, streams * (traffic.prompt + traffic.answer / 2), streams)
    return Load(streams, seconds, footprint.weights + SERVER_BYTES + streams * footprint.per_position * positions)


def most(footprint: Footprint, step: StepTime, traffic: Traffic, memory_bytes: float) -> int:
    """The most streams that fit into memory and at which each still has the pace; 0 when there is none."""
    low, high = 0, footprint.streams(memory_bytes, traffic.prompt + traffic.answer)
    while low < high:
        middle = (low + high + 1) // 2
        if load(middle, footprint, step, traffic).each >= traffic.pace:
            low = middle
        else:
            high = middle - 1
    return low


def people(at_once: Load, traffic: Traffic) -> float:
    """Who share so many streams when each pauses between answers."""
    answering = traffic.answer * at_once.seconds
    return at_once.streams * (answering + traffic.pause) / answering
