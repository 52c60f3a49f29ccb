"""Our engine without HTTP: ours_worker.py DIRECTORY BACKEND DTYPE.

A token is there when the observer hears of the step that made it: scheduler, model, sampling and delivery are behind it.
"""

from __future__ import annotations

import sys
import time

from protocol import channel, prompts, rate, serve


def main() -> None:
    answers = channel()
    from serving.composition import build_engine
    from serving.domain.events import Finished
    from serving.domain.plan import StepReport
    from serving.domain.request import Request, SamplingParams
    from serving.infrastructure.config import ServingConfig

    directory, backend, dtype = sys.argv[1:]
    steps: list[tuple[float, StepReport]] = []

    def observe(observation) -> None:
        if isinstance(observation, StepReport):
            steps.append((time.perf_counter(), observation))

    config = ServingConfig(backend=backend, dtype=dtype, prefix_caching=False, device="cpu", kv_memory_mb=1024)
    engine = build_engine(directory, config, observer=observe).engine
    parts = vars(engine)["_backend"]  # which one "auto" chose is nobody's business but a benchmark's

    def measure(question: dict) -> float:
        sampling = SamplingParams(temperature=0.0, max_tokens=question["output"])
        engine.pause()
        steps.clear()
        requests = [
            Request(f"{question['number']}-{index}", tuple(prompt), sampling)
            for index, prompt in enumerate(prompts(question, parts.vocab_size))
        ]
        streams = [engine.submit(request) for request in requests]
        started = time.perf_counter()
        engine.resume()
        for stream in streams:
            while not any(isinstance(event, Finished) for event in stream.next(1.0)):
                if not engine.healthy():
                    raise RuntimeError("the engine has stopped working")
        engine.pause()  # the last step has been reported when this returns
        engine.resume()
        arrivals: dict[str, list[float]] = {request.id: [] for request in requests}
        for when, report in steps:
            for item in report.work:
                arrivals[item.id] += [when] * item.produced
        return rate(question, started, list(arrivals.values()))

    measure({"phase": "decode", "batch": 2, "number": 0, "prompt": 128, "output": 8})
    serve(answers, {"backend": type(parts).__name__}, measure)
    engine.close()


if __name__ == "__main__":
    main()
