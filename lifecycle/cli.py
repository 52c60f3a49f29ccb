"""`lifecycle ...`: one click group; packages add their commands through the `lifecycle.commands` entry points.

An entry point names a `click.Command`. It is loaded only when it is called or listed, so that
`lifecycle models` never waits for torch to import.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

from lifecycle.config import near_miss
from lifecycle.errors import LifecycleError

GROUP = "lifecycle.commands"


class Commands(click.Group):
    """A group whose members are entry points."""

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._entries())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        entry = self._entries().get(name)
        return entry.load() if entry else None

    def resolve_command(self, ctx: click.Context, args: list[str]):
        if args[0] not in (known := self._entries()) and not ctx.resilient_parsing:
            raise LifecycleError(
                f'unknown command "{args[0]}": choose one of {", ".join(sorted(known))}.{near_miss(args[0], known)}'
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except LifecycleError as error:
            click.echo(f"lifecycle: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("\nlifecycle: interrupted; run the same command again to resume", err=True)
            ctx.exit(130)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from lifecycle.registry.files import disk_is_full

            if not disk_is_full(error):
                raise
            click.echo("lifecycle: the disk is full: make room, and the same command goes on from its last checkpoint", err=True)
            ctx.exit(2)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="llm-lifecycle")
def main() -> None:
    """Train a small language model from nothing and serve it: pretrain, sft, rlhf, deploy, serve."""


if __name__ == "__main__":
    main()
