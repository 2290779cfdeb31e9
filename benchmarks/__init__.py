"""The benchmarks behind `deffd bench`: each a ratio against a reference measured in the same run.

Every module has one function, ``measure(options)``, that yields `harness.Result`s.
"""

BENCHMARKS = {
    "overhead": "our rounds / a bare PyTorch loop that does the same steps",
    "train-step": "a plain NCHW training loop / ours: how many times faster we are",
    "evaluate": "a plain NCHW evaluation / ours: how many times faster we are",
    "messages": "milliseconds per message of an engine / those of LocalGrid",
    "seal": "sealing and opening / the bare primitive on the same bytes",
    "kme": "keys from two KMEs / from a server that only makes them up, in seconds",
    "startup": "seconds of a command from being typed to its end / of importing PyTorch",
    "together": "training clients one by one / all at once, in seconds",
    "scale": "client-rounds per second with 1,000 clients / with 100",
    "cores": "seconds per round with one worker / with two",
    "peers": "our seconds per ten client epochs / those of a bare loop and of other simulators",
}
"""Name -> what its ratio is."""
