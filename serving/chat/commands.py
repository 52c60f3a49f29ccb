"""`lifecycle chat`: talk to a model in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from lifecycle.config import override, parse_assignments
from lifecycle.errors import LifecycleError


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF]...")
@click.option("--url", help="Talk to a running server instead; REF is then a model that it serves.")
@click.option("--api-key", envvar="LIFECYCLE_API_KEY", help="The server's key. Also LIFECYCLE_API_KEY.")
@click.option("--system", default="", help="System prompt.")
@click.option(
    "--tools",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A Python file whose functions the model may call; they run here.",
)
@click.option("--temperature", type=float, help="0 for the likeliest answer.")
@click.option("--max-tokens", type=int, help="Longest answer.")
@click.option("--seed", type=int, help="The same answers again.")
@click.option("--adapter", "adapters", multiple=True, metavar="NAME=REF", help="Without --url: serve a LoRA adapter, too.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Without --url: any knob of the engine.")
def chat(
    refs: tuple[str, ...],
    url: str | None,
    api_key: str | None,
    system: str,
    tools: Path | None,
    adapters: tuple[str, ...],
    assignments: tuple[str, ...],
    **options: float | int | None,
) -> None:
    """Talk to registry versions (default: production), or to a server that runs already.

    The first REF answers; /model changes to another one. Lines may also come from a pipe: answers go to stdout.
    """
    from serving.chat.conversation import Conversation
    from serving.chat.terminal import Terminal
    from serving.chat.tools import LocalTools

    if url and (adapters or assignments):
        raise LifecycleError(
            "--adapter and --set are for an engine of one's own: leave --url out, or give them to lifecycle serve"
        )
    local = LocalTools.load(tools) if tools else LocalTools()
    given = {name: value for name, value in options.items() if value is not None}
    with connected(url, api_key, refs, adapters, assignments) as (client, model):
        Terminal(Conversation(client, model, given, local, system)).run()


@contextmanager
def connected(
    url: str | None, api_key: str | None, refs: Sequence[str], adapters: Sequence[str], assignments: Sequence[str]
) -> Iterator[tuple[Any, str]]:
    """A client and the name of the model to begin with; without a URL, of a server in this process."""
    from serving.chat.client import ChatClient, Refused

    if url:
        client = ChatClient(url, api_key or None)
        model = client.default_model()
        try:
            yield client, client.model(refs[0]) if refs else model
        except Refused as error:
            raise LifecycleError(str(error)) from None
        return

    from transformers.utils.logging import disable_progress_bar

    from serving.commands import parse_adapters
    from serving.composition import ServingConfig, build_catalog
    from serving.infrastructure.media.reader import MediaReader
    from serving.presentation.app import create_app
    from serving.presentation.local import run_in_thread
    from serving.presentation.state import HttpConfig

    disable_progress_bar()
    config = override(ServingConfig(), parse_assignments(assignments))
    catalog = build_catalog(refs or ("production",), config, adapters=parse_adapters(adapters))
    try:
        http = HttpConfig(media_body_bytes=config.body_bytes)
        with run_in_thread(create_app(catalog, http, media=MediaReader(config))) as server:
            yield ChatClient(server.url), catalog.all()[0].name
    finally:
        for model in catalog.engines():
            model.engine.close()
