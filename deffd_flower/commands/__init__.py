"""What the sub-commands of `deffd` do; each is imported only when it is called."""
