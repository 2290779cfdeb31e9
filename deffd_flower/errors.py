"""Errors that are meant for the person at the keyboard, not for a debugger."""

from difflib import get_close_matches


class DeffdError(Exception):
    """Something failed while running. Shown as one line, exit code 1."""


class RequestError(DeffdError):
    """The request itself is wrong. Shown as one line, exit code 2, nothing written.

    Args:
        key: The config key (or command argument) that is wrong.
        value: What was given for it; ``None`` when the key itself is the mistake.
        advice: What is allowed, or what to type instead.
    """

    def __init__(self, key: str, value: object, advice: str) -> None:
        self.key = key
        self.value = value
        self.advice = advice
        super().__init__(f"{key}: {advice}" if value is None else f"{key}={value}: {advice}")


def did_you_mean(word: str, known: list[str]) -> str:
    """Return " Did you mean 'x'?" for a near miss, or an empty string."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
