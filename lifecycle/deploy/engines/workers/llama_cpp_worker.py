"""llama.cpp: llama_cpp_worker.py DIRECTORY, a line of JSON in, a line of JSON out. Needs llama-cpp-python only."""

import json
import os
import sys

answers_out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the library prints is not an answer

import llama_cpp  # noqa: E402
import numpy  # noqa: E402

threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
model = llama_cpp.Llama(
    os.path.join(sys.argv[1], "model.gguf"), n_ctx=0, n_threads=threads, n_threads_batch=threads, logits_all=True, verbose=False
)


def logprobs(rows):
    """[T, V]"""
    rows = rows.astype(numpy.float64)
    top = rows.max(-1, keepdims=True)
    return rows - top - numpy.log(numpy.exp(rows - top).sum(-1, keepdims=True))


def answer(prompt, max_tokens, stop):
    model.reset()
    model.eval(prompt)
    said = []
    while True:
        said.append(int(model.scores[model.n_tokens - 1].argmax()))
        if said[-1] in stop or len(said) == max_tokens:
            return said
        model.eval(said[-1:])


def read(text):
    model.reset()
    model.eval(text)
    found = logprobs(model.scores[: len(text)])
    return found[numpy.arange(len(text) - 1), text[1:]].tolist(), found.argmax(-1).tolist()


for line in sys.stdin:
    asked = json.loads(line)
    if asked["ask"] == "name":
        told = f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"
    elif asked["ask"] == "answers":
        told = [answer(prompt, asked["max_tokens"], set(asked["stop"])) for prompt in asked["prompts"]]
    elif asked["ask"] == "tokens":
        told = [model.tokenize(text.encode(), add_bos=False, special=True) for text in asked["texts"]]
    else:
        told = [read(text) for text in asked["texts"]]
    answers_out.write(json.dumps(told) + "\n")
    answers_out.flush()
