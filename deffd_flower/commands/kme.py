"""`deffd kme`: a key manager by ETSI GS QKD 014, and certificates for trying it."""

import logging
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import typer

from deffd_flower.errors import RequestError


def certs_command(folder: Path, names: Sequence[str], role: str, days: int, renew: bool) -> None:
    """Make certificates, and their authority if the folder has none.

    Args:
        folder: Where they go.
        names: CNs; files are called after them.
        role: sae, kme or any.
        days: How long they are valid.
        renew: Replace those that are there and valid.

    Raises:
        RequestError: A name or option is wrong.
        DeffdError: The folder cannot be used.
    """
    from deffd_flower.kme.certificates import Authority, Role, Validity

    if role not in list(Role):
        raise RequestError("--role", role, f"must be one of {', '.join(Role)}")
    authority = Authority(folder)
    for name in names:
        until = None if renew else authority.valid_until(name)
        if until:
            typer.echo(f"{name}: kept, valid until {until:%Y-%m-%d}; --renew replaces it")
        else:
            authority.issue(name, Role(role), Validity.days(days))
            typer.echo(f"{name}: {folder / name}.crt, {folder / name}.key")
    typer.echo(f"authority: {authority.certificate_file}")


def serve_command(path: Path) -> None:
    """Run the KME that a file describes, until SIGTERM or SIGINT.

    Prints a line on stdout when it is ready; logs on stderr.

    Raises:
        RequestError: The file is wrong, or the extra is not installed.
        DeffdError: A port, certificate, store or channel cannot be used.
    """
    for module in ("aiohttp", "prometheus_client"):
        if find_spec(module) is None:
            advice = "needs further packages: pip install 'deffd-flower[kme]'"
            raise RequestError("kme serve", None, advice)
    from deffd_flower.kme.config_file import load
    from deffd_flower.kme.server import serve

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    config = load(path)
    serve(config, lambda addresses: typer.echo(f"{config.kme_id} is ready: {addresses}"))
