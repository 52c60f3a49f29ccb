"""How varied the world's text is: its data card's figures, of samples with a fixed seed.

    python benchmarks/world_card.py            # writes benchmarks/world_card.{json,md}
"""

from __future__ import annotations

import random
from dataclasses import asdict, replace

from results import markdown, publish

from lifecycle.world.commands import spoken
from lifecycle.world.config import PRESETS
from lifecycle.world.conversations import conversations
from lifecycle.world.corpus import documents
from lifecycle.world.quality import measure

COUNT = 5000
WORLD = replace(PRESETS["tiny"], documents=COUNT, conversations=COUNT)


def main() -> None:
    rng = random.Random(0)
    found = {
        "pretraining documents": measure([one.text for one in documents(WORLD, rng)]),
        "SFT conversations": measure([spoken(one) for one in conversations(WORLD, rng)]),
    }
    rows = [{"text": name, **asdict(quality)} for name, quality in found.items()]
    shown = [{name.replace("_", " "): round(value, 4) if isinstance(value, float) else value for name, value in row.items()} for row in rows]
    publish("world_card", {"rows": rows}, "How varied the world's text is", markdown(shown))


if __name__ == "__main__":
    main()
