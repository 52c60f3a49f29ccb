"""OpenVINO: openvino_worker.py DIRECTORY, a line of JSON in, a line of JSON out. Needs openvino-genai only.

openvino_worker.py FILE.gguf DIRECTORY writes OpenVINO's own representation of a GGUF file into a directory, and ends. The library
chooses its threads: told to use one, or bound to one logical processor, it divides by zero.
"""

import json
import os
import shutil
import sys
import tempfile

answers_out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the library prints is not an answer
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, range(os.cpu_count()))

import numpy  # noqa: E402
import openvino  # noqa: E402
import openvino_genai  # noqa: E402


def convert(file, directory):
    """The library puts what it makes of a GGUF file beside that file."""
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copy(file, os.path.join(place, "model.gguf"))
        openvino_genai.LLMPipeline(copy, "CPU", enable_save_ov_model=True)
        for name in os.listdir(place):
            if name.startswith("openvino_"):
                shutil.move(os.path.join(place, name), directory)


class Model:
    def __init__(self, directory):
        self.pipeline = openvino_genai.LLMPipeline(directory, "CPU")
        self.tokenizer = self.pipeline.get_tokenizer()
        self.request = openvino.Core().compile_model(os.path.join(directory, "openvino_model.xml"), "CPU").create_infer_request()

    def answer(self, prompt, max_tokens, stop):
        config = openvino_genai.GenerationConfig(max_new_tokens=max_tokens, do_sample=False, apply_chat_template=False)
        config.stop_token_ids, config.include_stop_str_in_output, config.ignore_eos = set(stop), True, not stop
        ids = numpy.array([prompt], dtype=numpy.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        return list(self.pipeline.generate(inputs, config).tokens[0])

    def read(self, text):
        ids = numpy.array([text], dtype=numpy.int64)
        self.request.reset_state()
        places = numpy.arange(len(text))
        asked = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "position_ids": places[None], "beam_idx": numpy.zeros(1, numpy.int32)}
        rows = next(iter(self.request.infer(asked).values()))[0].astype(numpy.float64)  # [T, V]
        top = rows.max(-1, keepdims=True)
        found = rows - top - numpy.log(numpy.exp(rows - top).sum(-1, keepdims=True))
        return found[places[:-1], text[1:]].tolist(), found.argmax(-1).tolist()

    def tokens(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist()


def main(directory):
    model = Model(directory)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["ask"] == "name":
            told = f"OpenVINO GenAI {openvino_genai.__version__}"
        elif asked["ask"] == "answers":
            told = [model.answer(prompt, asked["max_tokens"], asked["stop"]) for prompt in asked["prompts"]]
        elif asked["ask"] == "tokens":
            told = [model.tokens(text) for text in asked["texts"]]
        else:
            told = [model.read(text) for text in asked["texts"]]
        answers_out.write(json.dumps(told) + "\n")
        answers_out.flush()


if os.path.isfile(sys.argv[1]):
    convert(*sys.argv[1:])
else:
    main(*sys.argv[1:])
