"""Who writes to whom, and the Flower strategies that carry it out."""
