"""Every artefact of one version: its size, its speed, and how far it is from its source, by the engine that will run it.

    python benchmarks/artefacts.py --prepare            # llama.cpp is compiled: a quarter of an hour on two cores
    python benchmarks/artefacts.py [REF]                # by default rlhf@latest; writes benchmarks/artefacts.{json,md}
    python benchmarks/artefacts.py smollm2 --prompts 50 --target bf16 --target gguf-q4_k

Nothing is registered. Source and artefact answer the same held-out prompts greedily, and both read the prompts with the source's
answers. `agreement` is the share of prompts with the same greedy tokens, all of them; `tokens_per_s` is of one stream. An engine
that is not installed, and a target that the model does not allow, are named with the reason and left out.

Prints a table and, last, one JSON line; `--json FILE` says where both go.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from peer_engines.processes import BUILD, make_environment, run
from results import markdown, publish

from lifecycle import adapters, versions
from lifecycle.deploy.config import TARGETS, DeployConfig
from lifecycle.deploy.engines.processes import ENVIRONMENTS, LLAMA_CPP, OPENVINO, Library
from lifecycle.deploy.export import export
from lifecycle.deploy.verification import verify
from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry

ADAPTER = "adapter@latest"
"""Of which the target "adapter" is made, where the registry has one."""
NO_ADAPTER = "the registry has no adapter: train one with lifecycle sft --set method=adapter"


def prepare(library: Library) -> None:
    """A virtual environment of its own under build/peers."""
    log = BUILD / "logs" / f"prepare-{library.environment}.log"
    python = make_environment(BUILD / library.environment, log)
    print(f"installing {library.package} ...", flush=True)
    run([python, "-m", "pip", "install", library.package], log=log, seconds=5400, environment=compiling())


def compiling() -> dict[str, str]:
    """Without pictures, and without AMX: virtual machines tell of it and do not let one use it, and llama.cpp believes them."""
    told = Path("/proc/cpuinfo")
    no_amx = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" if told.is_file() and "amx_tile" in told.read_text() else ""
    return {"CMAKE_ARGS": "-DMTMD_BUILD=OFF -DLLAVA_BUILD=OFF", "CFLAGS": no_amx, "CXXFLAGS": no_amx}


def measure(registry: ModelRegistry, ref: str, config: DeployConfig) -> dict[str, Any]:
    """One artefact, in a directory that is gone afterwards. Raises LifecycleError."""
    if config.target == "adapter" and "adapter" not in registry.names():
        raise LifecycleError(NO_ADAPTER)
    version = registry.load(ADAPTER if config.target == "adapter" else ref)
    with tempfile.TemporaryDirectory() as place, versions.merged(version) as whole:
        artefact = Path(place, "artefact")
        facts = export(version if config.target == "adapter" else whole, config, artefact)
        found = verify(Path(whole.path), artefact, config, Path(adapters.base_of(version).path))
    return {
        "artefact": config.target,
        "size_mb": found["size_mb"],
        "tokens_per_s": found["tokens_per_s"],
        "agreement": found["same_answers"],
        "perplexity": round(found["perplexity"], 3),
        "source_perplexity": round(found["parent_perplexity"], 3),
        "nats_per_token": round(found["mean_difference"], 4),
        "same_likeliest": round(found["agreement"], 4),
        "engine": found["engine"],
        "prompts": found["prompts"],
        **({"stored": facts["stored"]} if "stored" in facts else {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ref", nargs="?", default="rlhf@latest")
    parser.add_argument("--prepare", action="store_true", help="only install the engines")
    parser.add_argument("--target", action="append", choices=TARGETS, help="this one; may be repeated")
    parser.add_argument("--prompts", type=int, default=DeployConfig.prompts)
    parser.add_argument("--json", type=Path, help="where the measurement goes; the table goes beside it")
    arguments = parser.parse_args()
    if arguments.prepare:
        for library in (OPENVINO, LLAMA_CPP):
            prepare(library)
        return
    os.environ.setdefault(ENVIRONMENTS, str(BUILD))
    registry, left_out, rows = ModelRegistry(), {}, []
    for target in arguments.target or TARGETS:
        try:
            rows.append(measure(registry, arguments.ref, DeployConfig(target=target, prompts=arguments.prompts)))
            print({key: rows[-1][key] for key in ("artefact", "size_mb", "tokens_per_s", "agreement")}, flush=True)
        except LifecycleError as error:
            left_out[target] = str(error).splitlines()[0]
            print(f"left out: {target}: {left_out[target]}", flush=True)
    source = registry.load(arguments.ref)
    shown = [{key: value for key, value in row.items() if key not in ("prompts", "stored", "source_perplexity")} for row in rows]
    before = rows[0]["source_perplexity"] if rows else "unknown"
    text = f"{markdown(shown)}\n{source.ref}, {rows[0]['prompts'] if rows else 0} held-out prompts; perplexity of the source {before}.\n"
    text += "".join(f"\nLeft out: {target}: {why}\n" for target, why in left_out.items())
    publish("artefacts", {"model": source.ref, "load": os.getloadavg()[0], "results": rows, "left_out": left_out}, "Artefacts", text, arguments.json)


if __name__ == "__main__":
    main()
