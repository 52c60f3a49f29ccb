"""The report card as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.evaluation.card import ReportCard
from lifecycle.evaluation.sets import LOWER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(card: ReportCard) -> Figure:
    """Bars by skill and version with 95% intervals; a dashed line where guessing would end. Skills that all versions have."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots()
    versions = card.versions()
    skills = [skill for skill in card.skills() if all(skill in card.of(version) for version in versions)]
    width = 0.8 / len(versions)
    for number, version in enumerate(versions):
        rows = card.of(version)
        places = [spot - 0.4 + width * (number + 0.5) for spot in range(len(skills))]
        values = [rows[skill].value for skill in skills]
        low = [rows[skill].value - rows[skill].low for skill in skills]
        high = [rows[skill].high - rows[skill].value for skill in skills]
        axes.bar(places, values, width, yerr=[low, high], label=version, error_kw={"linewidth": 1, "alpha": 0.6})
    for spot, skill in enumerate(skills):
        chance = card.of(versions[0])[skill].chance
        axes.hlines(chance, spot - 0.42, spot + 0.42, colors="black", linestyles="dashed", linewidth=1)
    labels = [skill.replace("_", "\n") + ("\n(lower is better)" if skill in LOWER_IS_BETTER else "") for skill in skills]
    axes.set_xticks(range(len(skills)), labels, fontsize=8)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("share of held-out tasks")
    axes.legend(ncols=len(versions), loc="upper center", bbox_to_anchor=(0.5, 1.12), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
