"""Adapters: everything that needs a library. Modules here import torch and transformers; import them late."""
