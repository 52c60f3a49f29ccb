"""Deploying: a trained version becomes one that a server loads, after it has proved that nothing was lost."""

from lifecycle.deploy.config import PRESETS, DeployConfig
from lifecycle.deploy.gate import promote, roll_back
from lifecycle.deploy.stage import run

__all__ = ["PRESETS", "DeployConfig", "promote", "roll_back", "run"]
