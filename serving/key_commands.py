"""`lifecycle keys`: who may use a server that runs with --api-keys."""

from __future__ import annotations

from pathlib import Path

import click

from serving.domain.quota import Limits
from serving.infrastructure.api_keys import StoredKey, create_key, limit_tenant, read_keys, revoke_key


def limit_options(command):
    """The three limits of a tenant."""
    positive = click.IntRange(1, 10**9)
    for name, what in (
        ("concurrent", "Requests at the same time."),
        ("tokens", "Tokens a minute, of prompts and answers together."),
        ("rate", "Requests a minute."),
    ):
        command = click.option(f"--{name}", type=positive, metavar="N", help=what)(command)
    return command


@click.group()
@click.option(
    "--file",
    "path",
    default="keys.jsonl",
    show_default=True,
    envvar="LIFECYCLE_API_KEYS",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the keys are kept, as hashes. Also LIFECYCLE_API_KEYS.",
)
@click.pass_context
def keys(ctx: click.Context, path: Path) -> None:
    """Make, list and revoke API keys for lifecycle serve --api-keys FILE; a running server sees every change."""
    ctx.obj = path


@keys.command()
@click.option("--tenant", required=True, metavar="NAME", help="Whom the key is for; several keys may share a tenant.")
@click.option("--admin", is_flag=True, help="The key may also run the server: /admin, the engine and registry views, and everybody's feedback.")
@limit_options
@click.pass_obj
def create(path: Path, tenant: str, admin: bool, rate: int | None, tokens: int | None, concurrent: int | None) -> None:
    """Make a key and print it: this once, because the file keeps only its hash."""
    key, stored = create_key(path, tenant, admin=admin, limits=Limits(rate, tokens, concurrent))
    click.echo(key)
    click.echo(f"{_describe(stored)}, in {path}. The key is not shown again.", err=True)


@keys.command("list")
@click.pass_obj
def list_(path: Path) -> None:
    """Every key by its id; the keys themselves are not in the file."""
    for key in read_keys(path):
        click.echo(_describe(key))


@keys.command()
@click.argument("id_", metavar="ID")
@click.pass_obj
def revoke(path: Path, id_: str) -> None:
    """Remove a key: the next request with it is refused."""
    click.echo(f"revoked: {_describe(revoke_key(path, id_))}")


@keys.command()
@click.argument("tenant")
@limit_options
@click.pass_obj
def limit(path: Path, tenant: str, rate: int | None, tokens: int | None, concurrent: int | None) -> None:
    """Set the limits of a tenant, for all its keys; what is left out is not limited."""
    count = limit_tenant(path, tenant, limits := Limits(rate, tokens, concurrent))
    click.echo(f"{tenant}: {_limits(limits)} ({count} {'key' if count == 1 else 'keys'})")


def _describe(key: StoredKey) -> str:
    role = "admin" if key.admin else "user"
    return f"{key.id}  {key.tenant}  {role}  {_limits(key.limits)}  {key.created}".rstrip()


def _limits(limits: Limits) -> str:
    words = {
        "requests/min": limits.requests_per_minute,
        "tokens/min": limits.tokens_per_minute,
        "at the same time": limits.concurrent,
    }
    return ", ".join(f"{value} {what}" for what, value in words.items() if value is not None) or "no limits"
