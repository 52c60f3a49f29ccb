"""`lifecycle models`: what is in the registry, where it came from, and moving it in, out and about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from lifecycle.errors import LifecycleError
from lifecycle.registry.aliases import AliasMove
from lifecycle.registry.manifest import ModelVersion
from lifecycle.registry.store import ModelRegistry

GATED = "production"
"""The alias that moves through the gate."""


@click.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """The versions in the registry: list, compare, trace, verify, import, export.

    The registry is ./registry, or wherever LIFECYCLE_REGISTRY says.
    """
    if ctx.invoked_subcommand is None:
        _list(ModelRegistry())


@models.command()
@click.argument("ref")
def show(ref: str) -> None:
    """Everything the manifest of REF says."""
    version = ModelRegistry().resolve(ref)
    manifest = version.manifest
    facts = {
        "version": version.ref,
        "path": version.path,
        "stage": manifest.stage,
        "created": manifest.created,
        "preset": manifest.preset,
        "parents": ", ".join(parent.ref for parent in manifest.parents) or None,
        "data": f"{manifest.data.id} {manifest.data.hash}" if manifest.data else None,
        "seed": manifest.seed,
        "seconds": manifest.seconds,
        "fingerprint": manifest.fingerprint,
        "content": version.content,
        "manifest": version.manifest_hash,
        "code": manifest.commit,
        "libraries": ", ".join(f"{name} {number}" for name, number in manifest.libraries.items()),
    }
    _pairs({key: value for key, value in facts.items() if value is not None})
    for title in ("config", "metrics", "cost"):
        if section := getattr(manifest, title):
            click.echo(f"\n{title}")
            _pairs(section, indent="  ")
    click.echo("\nfiles")
    _table([(f"  {path}", _bytes(record.size), record.sha256) for path, record in manifest.files.items()])


@models.command()
@click.argument("ref")
def lineage(ref: str) -> None:
    """The chain from REF to the data it all began with; fails when a link is broken."""
    chain = ModelRegistry().lineage(ref)
    for version in chain:
        parents = ", ".join(parent.ref for parent in version.manifest.parents)
        data = version.manifest.data
        click.echo(
            f"{version.ref}  {version.manifest.created}  manifest {version.manifest_hash[:12]}"
            f"  {'from ' + parents if parents else 'root'}{f'  data {data.id} {data.hash}' if data else ''}"
        )
    roots = [version for version in chain if not version.manifest.parents]
    unknown = [version.ref for version in roots if not version.manifest.data]
    click.echo(
        f"every link verified: {len(chain)} version(s), {len(roots)} root(s)"
        + (f"; no data is recorded for {', '.join(unknown)}" if unknown else ", down to the hash of the data")
    )


@models.command()
@click.argument("a")
@click.argument("b")
def diff(a: str, b: str) -> None:
    """What differs between versions A and B: config, data, metrics, weights tensor by tensor, files, tokenizer.

    Equal weights have the same content, whatever else differs: the same run on the same machine gives it again.
    """
    difference = ModelRegistry().diff(a, b)
    if not difference:
        click.echo(f"{difference.a} and {difference.b} do not differ")
    for title, changes in difference.sections():
        if changes:
            click.echo(title)
            rows = [(f"  {key}", _short(left), "->", _short(right)) for key, (left, right) in changes.items()]
            _table(rows)


@models.command()
@click.argument("name")
@click.argument("ref")
@click.option("--reason", default="", help="Recorded in the history.")
def alias(name: str, ref: str, reason: str) -> None:
    """Point the alias NAME at the version REF. "production" moves with lifecycle models promote."""
    if name == GATED:
        raise LifecycleError(
            f"{GATED} moves through the gate: lifecycle models promote {ref}; unchecked, with --force --reason WHY"
        )
    _moved(ModelRegistry().set_alias(name, ref, reason))


@models.command()
@click.argument("ref")
@click.option("--force", is_flag=True, help="Move it unchecked; needs --reason.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--limit", type=click.IntRange(1), help="Tasks of each skill for the report card; default: as it was deployed.")
@click.pass_context
def promote(ctx: click.Context, ref: str, force: bool, reason: str, limit: int | None) -> None:
    """Move production to the version REF through the gate: parity, smoke test, report card. Exit 1: it stays."""
    registry = ModelRegistry()
    if force:
        if not reason:
            raise LifecycleError(f"unchecked, it needs a reason for the history: lifecycle models promote {ref} --force --reason WHY")
        return _moved(registry.set_alias(GATED, registry.load(ref).ref, f"unchecked: {reason}"))
    version = registry.resolve(ref)
    from lifecycle.deploy import DeployConfig
    from lifecycle.deploy import promote as through_the_gate

    config = DeployConfig(report_limit=limit or version.manifest.config.get("report_limit"))
    if registry.aliases().get(GATED) == version.ref:
        click.echo(f"{GATED} is {version.ref} already")
    elif not through_the_gate(version, config, registry, click.echo):
        ctx.exit(1)


@models.command()
@click.option("--alias", "name", default=GATED, show_default=True)
@click.option("--reason", required=True, help="Why, for the history.")
def rollback(name: str, reason: str) -> None:
    """Move an alias back to the version before; servers that follow it swap at once."""
    from lifecycle.deploy import roll_back

    _moved(roll_back(ModelRegistry(), name, reason))


@models.command()
def aliases() -> None:
    """Where each alias points."""
    _table([(name, "->", ref) for name, ref in sorted(ModelRegistry().aliases().items())])


@models.command()
@click.argument("name", required=False, metavar="[ALIAS]")
def history(name: str | None) -> None:
    """Every move of every alias, or of one, oldest first: when, from where to where, who, why."""
    moves = [move for move in ModelRegistry().alias_moves() if name in (None, move.alias)]
    _table([(m.time, m.alias, m.source or "-", "->", m.target, m.user, m.reason) for m in moves])


@models.command()
@click.argument("refs", nargs=-1)
@click.pass_context
def verify(ctx: click.Context, refs: Sequence[str]) -> None:
    """Check every file and link of the REFS, or of everything; exit 1 if something is wrong."""
    registry = ModelRegistry()
    failed = False
    for ref in refs or registry.refs():
        found = registry.verify(ref)
        failed |= bool(found)
        click.echo(f"{ref}: ok" if not found else "\n".join(f"{ref}: {problem}" for problem in found))
    ctx.exit(1 if failed else 0)


@models.command()
@click.option("--keep", default=3, show_default=True, help="Newest versions of each name that stay.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(keep: int, dry_run: bool) -> None:
    """Remove versions that no alias, no descendant and no unfinished run needs, and what crashes left behind."""
    garbage = ModelRegistry().gc(keep, dry_run)
    for version in garbage.versions:
        click.echo(f"{version.ref}  {_bytes(version.size)}")
    for place in garbage.temporary:
        click.echo(f"{place}  (half-written, its owner is gone)")
    click.echo(f"{'would free' if dry_run else 'freed'} {_bytes(garbage.size)}")


@models.command("import")
@click.argument("source")
@click.option("--name", help="What to call it; default: the name of the source.")
def import_command(source: str, name: str | None) -> None:
    """Bring a model in: SOURCE is "smollm2", "hf:ORG/NAME", or a checkpoint directory."""
    from lifecycle.registry.sources import import_source

    import_source(ModelRegistry(), source, name, click.echo)


@models.command()
@click.argument("ref")
@click.argument("directory")
def export(ref: str, directory: str) -> None:
    """Check REF and copy it to DIRECTORY, a plain Hugging Face checkpoint."""
    click.echo(f"exported to {ModelRegistry().export(ref, directory)}")


def _moved(move: AliasMove) -> None:
    click.echo(f"{move.alias} -> {move.target}" + (f" (was {move.source})" if move.source else ""))


def _list(registry: ModelRegistry) -> None:
    aliased: dict[str, list[str]] = {}
    for name, target in registry.aliases().items():
        aliased.setdefault(target, []).append(name)
    rows = []
    for ref in registry.refs():
        try:
            version = registry.resolve(ref)
        except LifecycleError:  # one bad manifest must not hide the others
            rows.append((ref, "DAMAGED", "-", "-", " ".join(aliased.get(ref, ())), f"lifecycle models verify {ref}"))
            continue
        rows.append(_row(version, aliased.get(ref, ())))
    if not rows:
        click.echo(f'the registry {registry.location} is empty: try "lifecycle pretrain" or "lifecycle models import smollm2"')
        return
    _table([("VERSION", "STAGE", "CREATED", "SIZE", "ALIASES", "METRIC"), *rows])


def _row(version: ModelVersion, aliases: Iterable[str]) -> tuple[str, ...]:
    manifest = version.manifest
    scalars = ((key, value) for key, value in manifest.metrics.items() if isinstance(value, (int, float)))
    metric = next((f"{key} {value:.4g}" for key, value in scalars), "")
    created = manifest.created[:16].replace("T", " ")
    return version.ref, manifest.stage, created, _bytes(version.size), " ".join(sorted(aliases)), metric


def _table(rows: Sequence[Sequence[Any]]) -> None:
    if not rows:
        return
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _pairs(facts: Mapping[str, Any], indent: str = "") -> None:
    _table([(indent + key, value) for key, value in facts.items()])


def _short(value: Any) -> str:
    text = "-" if value is None else str(value).replace("\n", "\\n")
    return text if len(text) <= 40 else f"{text[:37]}..."


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
