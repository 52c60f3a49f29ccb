"""One frozen evaluation set per skill, one scorer for all of them, and the report card."""

from lifecycle.evaluation.card import ReportCard, Row, report

__all__ = ["ReportCard", "Row", "report"]
