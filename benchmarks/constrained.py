"""What a grammar costs and whether it holds: two libraries' masks, the share of a step, and answers that must validate.

    python benchmarks/constrained.py --registry REGISTRY --model deploy@latest --model smollm2@latest

For each model: the time to compile a random JSON schema and to make one mask, by llguidance and (where it is installed) by
xgrammar, along texts that satisfy the schema; then answers under random tool schemas with a forced call and under random JSON
schemas, greedy and at temperature 1.0, each checked with jsonschema; then what eight streams under a grammar spend on masks.
Prints a table and one JSON line, writes benchmarks/constrained.{json,md}.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
from results import markdown, publish

from lifecycle.registry import ModelRegistry
from serving.application.chat import GenerateChat
from serving.application.constraints import Matcher
from serving.application.deltas import ChoiceFinished, TextDelta, ToolCallDelta
from serving.application.generation import Generation, Options
from serving.application.ports import ServedModel
from serving.bench.schemas import draw, draw_tool
from serving.composition import ServingConfig, load_served_model
from serving.domain.events import Finished
from serving.domain.grammar import Grammar
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.grammars import Grammars
from serving.infrastructure.tokenizer import HFTokenizer

PARTS = ("masks", "answers", "share")
AT_ONCE = 16
MAX_TOKENS = 400
FORMATS = jsonschema.FormatChecker(["uuid", "ipv4"])
"""Not dates: RFC 3339 has a year 0000, and Python has not."""
Texts = list[tuple[dict[str, Any], str]]
ASKED = [{"role": "user", "content": "Fill this in. Be short."}]


def texts(count: int) -> Texts:
    """Random schemas, each with a text that satisfies it."""
    rng = random.Random(7)
    return [(schema, json.dumps(value, ensure_ascii=False)) for schema, value in (draw(rng, 3) for _ in range(count))]


def llguidance_masks(tokenizer: HFTokenizer, pairs: Texts) -> Iterator[tuple[float, list[float]]]:
    """Seconds to compile, and seconds of each mask along the text, schema by schema: through our own adapter."""
    grammars = Grammars(tokenizer)
    grammars.start(Grammar("choice", '["a"]'))  # makes the trie of tokens
    for schema, text in pairs:
        started = time.perf_counter()
        matcher = grammars.start(Grammar("json_schema", json.dumps(schema)))
        compiled = time.perf_counter() - started
        go_on = partial(_advance, matcher)
        yield compiled, along(tokenizer.encode(text), matcher.allowed, go_on)


def xgrammar_masks(tokenizer: HFTokenizer, pairs: Texts) -> Iterator[tuple[float, list[float]]]:
    """The same through xgrammar."""
    import xgrammar
    from transformers import AutoTokenizer

    fast = AutoTokenizer.from_pretrained(tokenizer.directory, local_files_only=True)
    compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo.from_huggingface(fast), max_threads=1, cache_enabled=False)
    mask = xgrammar.allocate_token_bitmask(1, len(fast))
    for schema, text in pairs:
        started = time.perf_counter()
        compiled = compiler.compile_json_schema(json.dumps(schema), any_whitespace=False, separators=(", ", ": "))
        matcher = xgrammar.GrammarMatcher(compiled)
        seconds = time.perf_counter() - started
        yield seconds, along(tokenizer.encode(text), partial(matcher.fill_next_token_bitmask, mask), matcher.accept_token)


def along(tokens: Sequence[int], mask: Callable[[], Any], go_on: Callable[[int], bool]) -> list[float]:
    """Seconds for each mask and the step to the next token; none when the text is refused."""
    seconds = []
    for token in tokens:
        started = time.perf_counter()
        mask()
        taken = go_on(token)
        seconds.append(time.perf_counter() - started)
        if not taken:
            return []
    return seconds


def _advance(matcher: Matcher, token: int) -> bool:
    matcher.advance([token])
    return True


def compare(name: str, tokenizer: HFTokenizer, count: int) -> list[dict[str, Any]]:
    """One row per library."""
    libraries: dict[str, Callable[..., Any]] = {"llguidance": llguidance_masks}
    if importlib.util.find_spec("xgrammar"):
        libraries["xgrammar"] = xgrammar_masks
    rows = []
    for library, run in libraries.items():
        compiled, masks, lost = [], [], 0
        for seconds, steps in run(tokenizer, texts(count)):
            compiled.append(1e3 * seconds)
            masks += [1e6 * step for step in steps]
            lost += not steps
        rows.append(
            {
                "vocabulary": f"{name}, {len(tokenizer.vocabulary)}",
                "library": library,
                "compile, ms (median)": statistics.median(compiled),
                "(p99) ": percentile(compiled, 0.99),
                "mask, us (mean)": statistics.mean(masks),
                "(median)": statistics.median(masks),
                "(p99)": percentile(masks, 0.99),
                "right texts refused": lost,
            }
        )
    return rows


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def validity(model: ServedModel, tools: int, schemas: int) -> list[dict[str, Any]]:
    """Answers under random schemas: how many validate, and how many were cut by their last token."""
    rows = []
    for temperature in (0.0, 1.0):
        rng = random.Random(int(temperature) + 1)
        offered = [draw_tool(rng, f"tool_{at}")[0] for at in range(tools)]
        calls = [
            (
                tool["function"]["parameters"],
                GenerateChat(ASKED, [tool], forced="", parallel=False, options=_options(temperature, at)),
            )
            for at, tool in enumerate(offered)
        ]
        forms = [draw(rng, 3)[0] for _ in range(schemas)]
        answers = [
            (form, GenerateChat(ASKED, options=_options(temperature, at, Grammar("json_schema", json.dumps(form)))))
            for at, form in enumerate(forms)
        ]
        for kind, work in (("tool call", calls), ("JSON", answers)):
            started = time.perf_counter()
            found = list(ask(model, work))
            rows.append(
                {
                    "model": model.version,
                    "answers": kind,
                    "temperature": temperature,
                    "asked": len(found),
                    "valid": found.count("valid"),
                    "cut": found.count("cut"),
                    "wrong": found.count("wrong"),
                    "seconds": time.perf_counter() - started,
                }
            )
            print(rows[-1], flush=True)
    return rows


def _options(temperature: float, seed: int, grammar: Grammar | None = None) -> Options:
    return Options(temperature=temperature, seed=seed, max_tokens=MAX_TOKENS, grammar=grammar)


def ask(model: ServedModel, work: Sequence[tuple[dict[str, Any], GenerateChat]]) -> Iterator[str]:
    """ "valid", "wrong" or "cut" for each."""
    for first in range(0, len(work), AT_ONCE):
        batch = work[first : first + AT_ONCE]
        started = [(schema, command.start(model)) for schema, command in batch]
        yield from (verdict(schema, generation) for schema, generation in started)


def verdict(schema: dict[str, Any], generation: Generation) -> str:
    deltas = [delta for update in generation.updates(1.0) for delta in update]
    (end,) = [delta for delta in deltas if isinstance(delta, ChoiceFinished)]
    calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
    text = calls[0].arguments if calls else "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    if end.reason == "length":
        return "cut"
    try:
        jsonschema.validate(json.loads(text), schema, format_checker=FORMATS)
    except (ValueError, jsonschema.ValidationError) as error:
        print("wrong:", json.dumps(schema), repr(text), end, str(error)[:200], flush=True)
        return "wrong"
    return "valid"


def share(model: ServedModel, streams: int, length: int, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds a step with every stream under a grammar, and with none, in turn."""
    entry = {"name": {"type": "string"}, "n": {"type": "integer"}}
    item = {"type": "object", "properties": entry, "required": [*entry]}
    schema = {"type": "array", "items": item, "minItems": 100}
    grammar = Grammar("json_schema", json.dumps(schema))
    prompt = tuple(model.tokenizer.render_chat(ASKED))
    runs: dict[str, list[dict[str, float]]] = {"none": [], "JSON schema": []}
    for turn in range(repeats + 1):
        for name, chosen in (("none", None), ("JSON schema", grammar)):
            before = model.engine.stats()
            sampling = SamplingParams(temperature=0.0, max_tokens=length, grammar=chosen)
            pending = [model.engine.submit(Request(f"{name}-{turn}-{at}", prompt, sampling)) for at in range(streams)]
            for stream in pending:
                while not any(isinstance(event, Finished) for event in stream.next(1.0)):
                    pass
            after = model.engine.stats()
            steps = after.steps - before.steps
            figures = {"step, ms": 1e3 * (after.step_seconds - before.step_seconds) / steps}
            for part in ("grammar masks", "sampling"):
                figures[f"{part}, ms"] = 1e3 * (after.parts[part] - before.parts[part]) / steps
            if turn:  # the first one warms up
                runs[name].append(figures)
    rows = []
    for name, measured in runs.items():
        row = {key: statistics.median(run[key] for run in measured) for key in measured[0]}
        whole, masks, sampling = (row[key] for key in ("step, ms", "grammar masks, ms", "sampling, ms"))
        shares = {"masks (%)": 100 * masks / whole, "masks and sampling (%)": 100 * (masks + sampling) / whole}
        rows.append({"model": model.version, "streams": streams, "grammar": name, **row, **shares})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", type=Path)
    parser.add_argument("--model", action="append", required=True, help="A registry version; may be repeated.")
    parser.add_argument("--mask-schemas", type=int, default=200)
    parser.add_argument("--tools", type=int, default=300)
    parser.add_argument("--schemas", type=int, default=100)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path, help="Figures of the parts that are left out are taken from what is there.")
    arguments = parser.parse_args()

    target = arguments.json or Path(__file__).with_suffix(".json")
    found = json.loads(target.read_text()) if target.exists() else {}
    figures = {part: found.get(part, []) for part in PARTS}
    figures |= {part: [] for part in arguments.parts}
    registry = ModelRegistry(arguments.registry) if arguments.registry else ModelRegistry()
    for ref in arguments.model:
        version = registry.load(ref)
        if "masks" in arguments.parts:
            figures["masks"] += compare(version.ref, HFTokenizer(version.path), arguments.mask_schemas)
        if {"answers", "share"} & set(arguments.parts):
            model = load_served_model(version, ServingConfig(kv_memory_mb=512), registry)
            if "answers" in arguments.parts:
                figures["answers"] += validity(model, arguments.tools, arguments.schemas)
            if "share" in arguments.parts:
                figures["share"] += share(model, arguments.streams, arguments.output_len, arguments.repeats)
            model.engine.close()
    titles = {
        "masks": "## A mask\nAlong texts that satisfy random JSON schemas; the step to the next token included. One thread.",
        "answers": "## Answers\nRandom schemas, one forced tool call or one JSON value each, checked with jsonschema.",
        "share": "## A step\nMedians; streams of equal length, greedy, all of them under a grammar or none.",
    }
    text = "\n\n".join(f"{titles[part]}\n\n{markdown(rows)}" for part, rows in figures.items() if rows) + "\n"
    publish("constrained", figures, "Constrained decoding", text, arguments.json)


if __name__ == "__main__":
    main()
