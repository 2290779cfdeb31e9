"""Quantum key distribution: the links, the key they give, the network that stores and relays it."""
