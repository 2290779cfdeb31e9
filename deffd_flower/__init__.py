"""Decentralised federated learning by feature-map distillation, over QKD-keyed transport."""

__version__ = "0.1.0"
