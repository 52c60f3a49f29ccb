"""`lifecycle serve`: answer over HTTP with one or several registry versions."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lifecycle.config import override, parse_assignments
from lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    from lifecycle.registry import ModelVersion


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--api-key", envvar="LIFECYCLE_API_KEY", help="Clients must send this key. Also LIFECYCLE_API_KEY.")
@click.option("--policy", help="Batching policy.")
@click.option("--max-num-seqs", type=int, help="Most requests that run at the same time.")
@click.option("--max-num-batched-tokens", type=int, help="Most tokens computed in one step.")
@click.option("--kv-memory", type=int, metavar="MB", help="Memory for keys and values.")
@click.option("--backend", help="auto, native, packed or padded.")
@click.option("--dtype", help="auto, float32 or bfloat16.")
@click.option(
    "--record", type=click.Path(dir_okay=False, path_type=Path), help="Write every request and step to this file."
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any other knob of the engine.")
def serve(
    refs: tuple[str, ...],
    host: str,
    port: int,
    api_key: str | None,
    record: Path | None,
    assignments: tuple[str, ...],
    kv_memory: int | None,
    **knobs: str | int | None,
) -> None:
    """Serve registry versions (default: production) with an OpenAI-compatible API and a chat page.

    REF is an alias, a version or a name: production, sft/3, sft@latest, smollm2. A request that names no model is
    answered by the first one.
    """
    from lifecycle.registry import ModelRegistry
    from serving.infrastructure.config import ServingConfig
    from serving.presentation.gunicorn_app import address, listen, serve_forever
    from serving.presentation.state import EXAMPLES, HttpConfig

    if not api_key and not is_loopback(host):
        raise LifecycleError(f"{host} can be reached by others: protect the server with --api-key KEY")
    given = {key: value for key, value in {**knobs, "kv_memory_mb": kv_memory}.items() if value is not None}
    config = override(ServingConfig(), {**given, **parse_assignments(assignments)})
    registry = ModelRegistry()
    versions = [registry.resolve(ref).ref for ref in refs or ("production",)]
    examples = suggested_prompts(registry.lineage(versions[0])) or EXAMPLES
    listener = listen(host, port)
    url = address(listener)

    def build():
        from serving.composition import build_catalog  # imports torch: only in the worker

        return build_catalog(versions, config, registry, record=record)

    click.echo(f"Loading {', '.join(versions)} ...", err=True)
    serve_forever(
        build,
        listener,
        HttpConfig(api_key=api_key or None, examples=examples, registry=registry.root),
        lambda: click.echo(f"Serving {', '.join(versions)} at {url} (chat page) and {url}/v1 (OpenAI API)"),
    )


def suggested_prompts(lineage: Sequence[ModelVersion]) -> tuple[str, ...]:
    """What the chat page offers: `examples` in the data detail of the newest ancestor that has any.

    A small model knows what it was taught, and its data is what knows that best.
    """
    for version in lineage:
        found = version.manifest.data.detail.get("examples") if version.manifest.data else None
        if isinstance(found, list | tuple) and found and all(isinstance(text, str) for text in found):
            return tuple(found[:6])
    return ()


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
