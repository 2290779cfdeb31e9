"""What a KME costs that does not have to be one: the reference of the benchmark `kme`.

``python -m benchmarks.bare_kme CERTIFICATE KEY CA`` serves enc_keys and dec_keys with mutual TLS
and the same HTTP library from a dictionary: no second KME, no link, no disk, no check of what is
asked for. Prints its port.
"""

import asyncio
import base64
import os
import ssl
import sys
from uuid import uuid4

from aiohttp import web


class BareKme:
    """Random keys in a dictionary."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}

    async def status(self, request: web.Request) -> web.Response:
        """Say that there is key."""
        return web.json_response({"stored_key_count": 1})

    async def enc_keys(self, request: web.Request) -> web.Response:
        """Return new keys."""
        wanted = await request.json()
        made = {
            str(uuid4()): base64.b64encode(os.urandom(wanted["size"] // 8)).decode()
            for _ in range(wanted["number"])
        }
        self._keys.update(made)
        return self._container(made)

    async def dec_keys(self, request: web.Request) -> web.Response:
        """Return keys that were made before, once."""
        wanted = await request.json()
        ids = [each["key_ID"] for each in wanted["key_IDs"]]
        return self._container({key_id: self._keys.pop(key_id) for key_id in ids})

    def _container(self, keys: dict[str, str]) -> web.Response:
        return web.json_response({"keys": [{"key_ID": i, "key": key} for i, key in keys.items()]})


async def main(certificate: str, key: str, ca: str) -> None:
    """Serve until killed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    kme, app = BareKme(), web.Application()
    app.router.add_get("/api/v1/keys/{id}/status", kme.status)
    app.router.add_post("/api/v1/keys/{id}/enc_keys", kme.enc_keys)
    app.router.add_post("/api/v1/keys/{id}/dec_keys", kme.dec_keys)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    print(site.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
