"""What a receiver makes of its own model and the ones it received."""
