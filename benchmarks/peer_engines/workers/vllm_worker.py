"""vLLM's engine without HTTP: vllm_worker.py DIRECTORY VOCAB_SIZE MAX_MODEL_LEN.

A token is there when `step` of the front end returns it. Token ids only, as everybody: no text is made.
"""

from __future__ import annotations

import sys
import time

from protocol import channel, prompts, rate, serve


def main() -> None:
    answers = channel()
    from vllm import EngineArgs, LLMEngine, SamplingParams
    from vllm.sampling_params import RequestOutputKind

    directory, vocab_size, max_model_len = sys.argv[1:]
    engine = LLMEngine.from_engine_args(
        EngineArgs(
            directory,
            dtype="bfloat16",
            max_model_len=int(max_model_len),
            max_num_seqs=32,
            max_num_batched_tokens=2048,
            enable_prefix_caching=False,
            disable_log_stats=True,
        )
    )

    def measure(question: dict) -> float:
        sampling = SamplingParams(
            temperature=0.0,
            max_tokens=question["output"],
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        arrivals: dict[str, list[float]] = {}
        started = time.perf_counter()
        for index, ids in enumerate(prompts(question, int(vocab_size))):
            name = f"{question['number']}-{index}"
            arrivals[name] = []
            engine.add_request(name, {"prompt_token_ids": ids}, sampling)
        while engine.has_unfinished_requests():
            outputs = engine.step()
            now = time.perf_counter()
            for output in outputs:
                arrivals[output.request_id] += [now] * len(output.outputs[0].token_ids)
        return rate(question, started, list(arrivals.values()))

    measure({"phase": "decode", "batch": 2, "number": 0, "prompt": 128, "output": 8})
    serve(answers, {}, measure)


if __name__ == "__main__":
    main()
