"""Deploying: a trained version becomes one that a server loads, after it has proved that nothing was lost."""

from lifecycle.deploy.config import PRESETS, DeployConfig
from lifecycle.deploy.stage import promote, run

__all__ = ["PRESETS", "DeployConfig", "promote", "run"]
