"""A module that nobody imports, unless a server can name modules that clients then import."""
