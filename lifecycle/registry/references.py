"""From what people write ("sft/3", "sft@latest", "production", "sft") to one version, or an error; nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lifecycle.config import near_miss
from lifecycle.errors import LifecycleError
from lifecycle.registry.aliases import ALIASES

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
HOW_TO_START = 'train one with "lifecycle pretrain" or bring one in with "lifecycle models import smollm2"'


def check_name(kind: str, name: str) -> None:
    """Raise LifecycleError unless `name` can be a directory, a URL segment and an alias on every system."""
    if not NAME.fullmatch(name) or name == ALIASES:
        raise LifecycleError(
            f'"{name}" cannot be {kind}: use lower-case letters, digits, ".", "_" and "-", '
            "starting and ending with a letter or digit, 64 characters at most"
        )


def numbers(root: Path) -> dict[str, list[int]]:
    """Version numbers by name, ascending. Only directories count that a rename has made visible."""
    found = {}
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if not NAME.fullmatch(folder.name) or not folder.is_dir():
            continue
        if versions := sorted(int(entry.name) for entry in folder.iterdir() if _is_number(entry.name)):
            found[folder.name] = versions
    return found


def locate(ref: str, known: Mapping[str, Sequence[int]], aliases: Mapping[str, str], where: Path | str) -> tuple[str, int]:
    """Name and number of the one version that `ref` means.

    Raises LifecycleError that lists the candidates when there is none, or more than one.
    """
    if ref in aliases:
        if ref in known:
            raise LifecycleError(f'"{ref}" is ambiguous: it is an alias of {aliases[ref]} and a name; write {ref}@latest')
        target = aliases[ref]
        name, _, number = target.partition("/")
        if not _is_number(number) or int(number) not in known.get(name, ()):
            raise LifecycleError(f'alias "{ref}" points to {target}, which {where} no longer has; {_candidates(known)}')
        return name, int(number)
    name, separator, which = re.fullmatch(r"(?s)([^/@]*)([/@]?)(.*)", ref).groups()
    versions = known.get(name, ())
    if not versions:
        raise _missing(ref, known, aliases, where)
    if separator == "@":
        if which != "latest":
            raise LifecycleError(f'cannot read "{ref}": write {name}@latest, or a number as in {name}/{versions[-1]}')
        return name, versions[-1]
    if separator == "/":
        if not _is_number(which) or int(which) not in versions:
            raise LifecycleError(f'no version "{ref}" in {where}: choose one of {_choices(name, versions)}')
        return name, int(which)
    if len(versions) > 1:
        raise LifecycleError(f'"{ref}" is ambiguous: choose one of {_choices(name, versions)}')
    return name, versions[0]


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and word[0] != "0"


def _choices(name: str, versions: Sequence[int]) -> str:
    shown = [f"{name}/{number}" for number in versions]
    if len(shown) > 8:
        shown = [*shown[:2], "...", *shown[-4:]]
    return ", ".join([*shown, f"{name}@latest"])


def _candidates(known: Mapping[str, Sequence[int]]) -> str:
    refs = [f"{name}/{number}" for name, versions in known.items() for number in versions[-2:]]
    return f"there is {', '.join(refs)}" if refs else HOW_TO_START


def _missing(ref: str, known: Mapping[str, Sequence[int]], aliases: Mapping[str, str], where: Path | str) -> LifecycleError:
    if not known:
        return LifecycleError(f'no version "{ref}": the registry {where} is empty; {HOW_TO_START}')
    refs = [f"{name}/{number}" for name, versions in known.items() for number in versions]
    listed = _candidates(known) + (f"; aliases: {', '.join(sorted(aliases))}" if aliases else "")
    return LifecycleError(f'no version or alias "{ref}" in {where}: {listed}.{near_miss(ref, [*known, *aliases, *refs])}')
