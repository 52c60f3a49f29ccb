from sft.conftest import start, template

__all__ = ["start", "template"]
