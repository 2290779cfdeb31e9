"""Flower grids: in-process, and a window over any other."""
