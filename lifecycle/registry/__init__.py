"""THE model registry: every stage reads its input from it and publishes its result to it.

A version is a plain Hugging Face checkpoint directory plus `manifest.json` and a model card, so transformers, vLLM and
converters open it directly. Layout:

    <root>/<name>/<number>/   one immutable version
    <root>/aliases.jsonl      every move of every alias; the last one counts
    <root>/.work/             state of unfinished runs, to resume from
    <root>/.staging/          versions being written, invisible until a rename
"""

from lifecycle.registry.aliases import AliasMove
from lifecycle.registry.comparison import Difference
from lifecycle.registry.garbage import Garbage
from lifecycle.registry.identity import fingerprint
from lifecycle.registry.manifest import DataRef, FileRecord, Manifest, ModelVersion, ParentRef
from lifecycle.registry.store import ModelRegistry

__all__ = [
    "AliasMove",
    "DataRef",
    "Difference",
    "FileRecord",
    "Garbage",
    "Manifest",
    "ModelRegistry",
    "ModelVersion",
    "ParentRef",
    "fingerprint",
]
