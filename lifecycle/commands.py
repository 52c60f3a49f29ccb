"""The options that the stage commands share, and how they turn into a preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import click

from lifecycle.config import override, parse_assignments
from lifecycle.presets import Preset
from lifecycle.presets import preset as preset_named


def stage_options(parent: str) -> Callable:
    """--preset, --set and --parent, with the default parent of the stage."""

    def decorate(command: Callable) -> Callable:
        command = click.option("--parent", default=parent, show_default=True, metavar="REF", help="The version to start from.")(command)
        command = click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change one setting of the stage.")(command)
        return click.option("--preset", default="tiny", show_default=True, help="Size of everything: tiny, laptop, gpu or cluster.")(command)

    return decorate


def configure(preset: str, stage: str, assignments: tuple[str, ...]) -> Preset:
    """The preset with one stage's settings changed; raises LifecycleError for unknown presets, keys and values."""
    config = preset_named(preset)
    changed = override(getattr(config, stage), parse_assignments(assignments))
    return dataclasses.replace(config, **{stage: changed})
