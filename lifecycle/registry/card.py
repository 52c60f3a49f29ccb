"""The model card: README.md of a version, written from its manifest so that it cannot disagree with it."""

from __future__ import annotations

import json

from lifecycle.registry.manifest import Manifest

CARD = "README.md"


def model_card(manifest: Manifest, extra: str = "") -> str:
    """Markdown with the front matter that model hubs read; `extra` goes under the title."""
    ref = f"{manifest.name}/{manifest.number}"
    sections = [
        _front_matter(manifest),
        f"# {ref}\n",
        extra.strip() + "\n" if extra.strip() else "",
        _table("How it was made", _making(manifest)),
        _table("Metrics", manifest.metrics),
        _table("Config", manifest.config),
        _table("Cost", manifest.cost),
        _LOADING if _is_checkpoint(manifest) else "",
        _VERIFYING,
    ]
    return "\n".join(section for section in sections if section)


_LOADING = """## Loading

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/directory")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/directory")
```
"""
_VERIFYING = """`manifest.json` records the sha256 of every file; `lifecycle models verify` checks them.
"""


def _front_matter(manifest: Manifest) -> str:
    license_id = manifest.data.detail.get("license") if manifest.data else None
    library = ["library_name: transformers"] if _is_checkpoint(manifest) else []
    lines = ["---", *library, f"tags: [{json.dumps(manifest.stage)}]"]
    return "\n".join([*lines, *([f"license: {license_id}"] if license_id else []), "---", ""])


def _is_checkpoint(manifest: Manifest) -> bool:
    return "config.json" in manifest.files


def _making(manifest: Manifest) -> dict[str, object]:
    data = manifest.data
    facts = {
        "stage": manifest.stage,
        "preset": manifest.preset,
        "parents": ", ".join(f"{parent.ref} (manifest sha256 {parent.manifest})" for parent in manifest.parents),
        "data": f"{data.id} (hash {data.hash})" if data else None,
        **({f"data: {key}": value for key, value in data.detail.items()} if data else {}),
        "seed": manifest.seed,
        "fingerprint": manifest.fingerprint,
        "created": manifest.created,
        "seconds": manifest.seconds,
        "code": manifest.commit,
        "libraries": ", ".join(f"{name} {version}" for name, version in manifest.libraries.items()),
    }
    return {key: value for key, value in facts.items() if value not in (None, "")}


def _table(title: str, facts: dict[str, object]) -> str:
    if not facts:
        return ""
    rows = [f"| {_cell(key)} | {_cell(value)} |" for key, value in facts.items()]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *rows, ""])


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")
