"""OpenVINO GenAI's continuous batching: openvino_worker.py MODEL.gguf VOCAB_SIZE THREADS KV_GIB.

A token is there when `step` has returned and its request has been read.
"""

from __future__ import annotations

import sys
import time

from protocol import channel, prompts, rate, serve


def main() -> None:
    answers = channel()
    import numpy
    import openvino
    from openvino_genai import ContinuousBatchingPipeline, GenerationConfig, SchedulerConfig

    file, vocab_size, threads, kv_gib = sys.argv[1:]
    scheduler = SchedulerConfig()
    scheduler.cache_size = int(kv_gib)
    scheduler.max_num_batched_tokens = 2048
    scheduler.enable_prefix_caching = False
    pipeline = ContinuousBatchingPipeline(file, scheduler, "CPU", {"INFERENCE_NUM_THREADS": int(threads)})

    def measure(question: dict) -> float:
        config = GenerationConfig(max_new_tokens=question["output"], ignore_eos=True, do_sample=False)
        inputs = [openvino.Tensor(numpy.array([ids])) for ids in prompts(question, int(vocab_size))]
        started = time.perf_counter()
        handles = [pipeline.add_request(index, ids, config) for index, ids in enumerate(inputs)]
        arrivals: list[list[float]] = [[] for _ in handles]
        while pipeline.has_non_finished_requests():
            pipeline.step()
            now = time.perf_counter()
            for times, handle in zip(arrivals, handles, strict=True):
                while handle.can_read():
                    times += [now for output in handle.read().values() for _ in output.generated_ids]
        return rate(question, started, arrivals)

    measure({"phase": "decode", "batch": 2, "number": 0, "prompt": 128, "output": 8})
    serve(answers, {}, measure)


if __name__ == "__main__":
    main()
