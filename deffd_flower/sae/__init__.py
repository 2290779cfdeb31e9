"""A client as a secure application entity (SAE) of a QKD network with real key managers."""
