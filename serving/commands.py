"""`lifecycle serve`: answer over HTTP with one or several registry versions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lifecycle.config import near_miss, override, parse_assignments
from lifecycle.errors import LifecycleError
from serving.presentation.hosts import is_loopback, is_origin

if TYPE_CHECKING:
    from lifecycle.registry import ModelRegistry, ModelVersion
    from serving.application.access import Keys


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--api-key", envvar="LIFECYCLE_API_KEY", help="Clients must send this key. Also LIFECYCLE_API_KEY.")
@click.option(
    "--api-keys",
    "key_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keys of several tenants, made by lifecycle keys; read again when it changes.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let pages of this origin use the API, for example https://example.org. May be repeated.",
)
@click.option(
    "--feedback",
    "feedback_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where thumbs and comparisons are kept.  [default: feedback.sqlite in the registry]",
)
@click.option("--policy", help="Batching policy.")
@click.option("--max-num-seqs", type=int, help="Most requests that run at the same time.")
@click.option("--max-num-batched-tokens", type=int, help="Most tokens computed in one step.")
@click.option("--kv-memory", type=int, metavar="MB", help="Memory for keys and values.")
@click.option("--backend", help="auto, native, packed or padded.")
@click.option("--dtype", help="auto, float32, bfloat16 or int8.")
@click.option("--replicas", type=int, help="Engines in processes of their own, through Ray.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME=REF",
    help="Serve a LoRA adapter of the model under a name of its own: a registry version or a directory that PEFT wrote.",
)
@click.option(
    "--follow",
    "followed",
    multiple=True,
    metavar="ALIAS",
    help="Serve what this alias points to, and when it moves, the version that it points to then. May be repeated.",
)
@click.option(
    "--canary",
    "canary_percent",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help='Let the alias "candidate" answer this share of the requests for the alias that is followed.',
)
@click.option(
    "--shadow",
    "shadow_percent",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help='Let "candidate" answer this share too, unseen, and compare.',
)
@click.option(
    "--record", type=click.Path(dir_okay=False, path_type=Path), help="Write every request and step to this file."
)
@click.option(
    "--traces",
    metavar="URL",
    help="Send a span tree for every answer to this OpenTelemetry collector, for example http://127.0.0.1:4318.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Warnings as text, or JSON lines with one for every request.",
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any other knob of the engine.")
def serve(
    refs: tuple[str, ...],
    host: str,
    port: int,
    api_key: str | None,
    adapters: tuple[str, ...],
    key_file: Path | None,
    cors_origins: tuple[str, ...],
    followed: tuple[str, ...],
    feedback_file: Path | None,
    record: Path | None,
    log_format: str,
    traces: str | None,
    assignments: tuple[str, ...],
    kv_memory: int | None,
    **knobs: str | float | None,
) -> None:
    """Serve registry versions (default: production) with an OpenAI-compatible API and a chat page.

    REF is an alias, a version or a name: production, sft/3, sft@latest, smollm2. A request that names no model is
    answered by the first one.
    """
    from lifecycle.registry import ModelRegistry
    from serving.application.canary import Canary
    from serving.application.timing import TimingObserver
    from serving.infrastructure.config import ServingConfig
    from serving.infrastructure.feedback_sqlite import FILE_NAME, SqliteFeedback
    from serving.infrastructure.media.reader import MediaReader
    from serving.infrastructure.speech.voice import build_voice
    from serving.infrastructure.tracing import otlp_tracer
    from serving.presentation.gunicorn_app import address, listen, serve_forever
    from serving.presentation.logs import configure_logs
    from serving.presentation.state import EXAMPLES, HttpConfig

    if not (api_key or key_file) and not is_loopback(host):
        raise LifecycleError(
            f"{host} can be reached by others: protect the server with --api-key KEY or --api-keys FILE"
        )
    for origin in cors_origins:
        if not is_origin(origin):
            raise LifecycleError(
                f'"{origin}" is no origin: write scheme and host as browsers send them, https://example.org'
            )
    keys = open_keys(key_file)
    given = {key: value for key, value in {**knobs, "kv_memory_mb": kv_memory}.items() if value is not None}
    config = override(ServingConfig(), {**given, **parse_assignments(assignments)})
    named_adapters = parse_adapters(adapters)
    registry = ModelRegistry()
    targets = follow_targets(registry, followed)
    if config.tries and not followed:
        raise LifecycleError("a candidate is tried beside an alias that is followed: add --follow production")
    canary = Canary(config) if config.tries else None
    tracer = otlp_tracer(traces) if traces else None
    versions = [registry.resolve(ref).ref for ref in (*refs, *followed) or ("production",)]
    examples = suggested_prompts(registry.lineage(versions[0])) or EXAMPLES
    feedback = SqliteFeedback(feedback_file or registry.root / FILE_NAME)
    feedback.check()
    listener = listen(host, port)
    url = address(listener)

    def build():
        from serving.composition import build_catalog  # imports torch: only in the worker
        from serving.infrastructure.following import Follower
        from serving.infrastructure.trials import Trials, examine

        observe = (lambda: TimingObserver(tracer.engine)) if tracer else (lambda: None)
        catalog = build_catalog(versions, config, registry, adapters=named_adapters, record=record, observe=observe)
        tried, *others = [
            Follower(catalog, registry, alias, version, others=targets) for alias, version in targets.items()
        ] or [None]
        if canary is not None:
            Trials(catalog, registry, canary, tried, examine=partial(examine, registry)).start()
        elif tried is not None:
            others.append(tried)
        for follower in others:
            follower.start()
        return catalog

    configure_logs(log_format)
    click.echo(f"Loading {', '.join(versions)} ...", err=True)
    serve_forever(
        build,
        listener,
        HttpConfig(
            api_key=api_key or None, cors_origins=cors_origins, examples=examples, registry=registry.location,
            media_body_bytes=config.body_bytes,
        ),
        lambda: click.echo(f"Serving {', '.join(versions)} at {url} (chat page) and {url}/v1 (OpenAI API)"),
        keys=keys,
        feedback=feedback,
        media=MediaReader(config),
        voice=build_voice(config),
        canary=canary,
        trace=tracer and tracer.http,
    )


def follow_targets(registry: ModelRegistry, followed: Sequence[str]) -> dict[str, str]:
    """Where the followed aliases point. Raises LifecycleError for one that is none."""
    aliases = registry.aliases()
    for alias in followed:
        if alias not in aliases:
            raise LifecycleError(
                f'"{alias}" is no alias, so it cannot be followed: lifecycle models alias {alias} VERSION makes it one'
                + near_miss(alias, aliases)
            )
    return {alias: aliases[alias] for alias in followed}


def parse_adapters(pairs: Sequence[str]) -> dict[str, str]:
    """NAME=REF arguments by name. Raises LifecycleError for anything else, and for a name that comes twice."""
    adapters: dict[str, str] = {}
    for pair in pairs:
        name, _, ref = pair.partition("=")
        if not name or not ref:
            raise LifecycleError(f'cannot read --adapter "{pair}": write NAME=REF, for example --adapter pirate=adapter/1')
        if name in adapters:
            raise LifecycleError(f'two adapters are called "{name}": give each a name of its own')
        adapters[name] = ref
    return adapters


def suggested_prompts(lineage: Sequence[ModelVersion]) -> tuple[str, ...]:
    """What the chat page offers: `examples` in the data detail of the newest ancestor that has any.

    A small model knows what it was taught, and its data is what knows that best.
    """
    for version in lineage:
        found = version.manifest.data.detail.get("examples") if version.manifest.data else None
        if isinstance(found, list | tuple) and found and all(isinstance(text, str) for text in found):
            return tuple(found[:6])
    return ()


def open_keys(path: Path | None) -> tuple[Keys, ...]:
    """The keys of a file, or none. Raises LifecycleError with file and line, or when nobody has a key."""
    if path is None:
        return ()
    from serving.infrastructure.api_keys import KeyFile

    keys = KeyFile(path)
    if not len(keys):
        raise LifecycleError(
            f"{path} has no keys: make one with lifecycle keys --file {path} create --tenant NAME --admin"
        )
    return (keys,)
