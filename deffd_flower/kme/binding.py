"""The HTTP binding of ETSI GS QKD 014 V1.1.1: paths, JSON and status codes, and nothing else.

Edition 2 is another binding of the same `KeySupplyAgent`.
"""

import asyncio
import base64
import logging
import math
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from deffd_flower.kme import requests
from deffd_flower.kme.agent import Made
from deffd_flower.kme.config import KmeConfig
from deffd_flower.kme.limits import RateLimit
from deffd_flower.kme.metrics import Metrics
from deffd_flower.kme.requests import ApiError
from deffd_flower.kme.supply import KeySupplyAgent
from deffd_flower.kme.tls import common_name
from deffd_flower.kme.waiting_keys import NamedKey

log = logging.getLogger(__name__)
access_log = logging.getLogger("deffd_flower.kme.access")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SAE = web.RequestKey("sae", str)
#: ``{id}`` may be empty, which is told apart from a path that is none.
PATH = "/api/v1/keys/{id:[^{}/]*}/"


class Etsi014:
    """The three calls of the standard, by GET and by POST.

    Args:
        config: Of the KME.
        agent: Answers them.
        metrics: Counts them.
    """

    def __init__(self, config: KmeConfig, agent: KeySupplyAgent, metrics: Metrics) -> None:
        self._config = config
        self._saes = frozenset(config.saes)
        self._agent = agent
        self._metrics = metrics
        self._rate = RateLimit(config.limits.requests_per_second, config.limits.burst)

    def application(self) -> web.Application:
        """Return the application to be served with mutual TLS."""
        app = web.Application(
            middlewares=[self._answer], client_max_size=self._config.limits.body_bytes
        )
        for call, handler in (
            ("status", self._status),
            ("enc_keys", self._enc_keys),
            ("dec_keys", self._dec_keys),
        ):
            resource = app.router.add_resource(PATH + call, name=call)
            for method in ("GET",) if call == "status" else ("GET", "POST"):
                resource.add_route(method, handler)
        return app

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Identify the SAE, answer, count and log; no body and no key_ID is ever logged."""
        started = time.perf_counter()
        resource = request.match_info.route.resource
        call = resource.name if resource and resource.name else "other"
        sae = common_name(request.transport)
        response = await self._guarded(request, handler, sae)
        seconds = time.perf_counter() - started
        self._metrics.request(call, response.status, seconds)
        known = sae if sae in self._saes else repr(sae[:64])
        access_log.info(
            "%s %s %s %d %.1f ms", known, request.method, call, response.status, 1e3 * seconds
        )
        return response

    async def _guarded(
        self, request: web.Request, handler: Handler, sae: str
    ) -> web.StreamResponse:
        try:
            if sae not in self._saes:
                raise ApiError(401, "this certificate's CN is no SAE of this KME")
            if wait_s := self._rate.wait_s(sae):
                return _too_fast(wait_s)
            request[SAE] = sae
            return await handler(request)
        except ApiError as problem:
            return _error(problem.status, str(problem), problem.details)
        except web.HTTPRequestEntityTooLarge:
            most = self._config.limits.body_bytes
            response = _error(400, f"the body is longer than {most} bytes")
            response.force_close()
            return response
        except TimeoutError:
            response = _error(400, "the body did not arrive in time")
            response.force_close()
            return response
        except web.HTTPException as problem:
            return _error(problem.status, problem.reason, headers=problem.headers)
        except Exception as problem:
            # Its text could hold anything, so only its kind and place are told.
            place = "".join(traceback.format_tb(problem.__traceback__))
            log.error("%s\n%s", type(problem).__name__, place)
            return _error(503, "this KME has a problem of its own")

    async def _status(self, request: web.Request) -> web.Response:
        slave = requests.sae_id(request.match_info["id"])
        status = await self._agent.status(request[SAE], slave)
        keys = self._config.keys
        answer = {
            "source_KME_ID": self._config.kme_id,
            "target_KME_ID": status.target,
            "master_SAE_ID": request[SAE],
            "slave_SAE_ID": slave,
            "key_size": keys.size,
            "stored_key_count": status.stored,
            "max_key_count": self._agent.max_key_count,
            "max_key_per_request": keys.max_per_request,
            "max_key_size": keys.max_size,
            "min_key_size": keys.min_size,
            "max_SAE_ID_count": keys.max_sae_ids,
            "status_extension": {"deffd_route": list(status.route)},
        }
        return web.json_response(answer)

    async def _enc_keys(self, request: web.Request) -> web.Response:
        slave = requests.sae_id(request.match_info["id"])
        keys = self._config.keys
        if request.method == "GET":
            wanted = requests.key_request_of_query([*request.query.items()], keys)
        else:
            wanted = requests.key_request(requests.json_object(await self._body(request)), keys)
        made = await self._agent.get_key(request[SAE], slave, wanted)
        self._metrics.made(len(made.keys), bool(made.trusted))
        return _container(made)

    async def _dec_keys(self, request: web.Request) -> web.Response:
        master = requests.sae_id(request.match_info["id"])
        if request.method == "GET":
            wanted = requests.key_ids_of_query([*request.query.items()])
        else:
            given = requests.json_object(await self._body(request))
            wanted = requests.key_ids(given, self._config.keys)
        keys = await self._agent.get_key_with_ids(request[SAE], master, wanted)
        self._metrics.fetched(len(keys))
        return _container(Made(keys, []))

    async def _body(self, request: web.Request) -> bytes:
        async with asyncio.timeout(self._config.limits.body_s):
            return await request.read()


def _container(made: Made) -> web.Response:
    """Return a Key container (table 11)."""
    container: dict[str, object] = {"keys": [_key(key) for key in made.keys]}
    if made.trusted:
        container["key_container_extension"] = {"deffd_trusted_nodes": made.trusted}
    return web.json_response(container)


def _key(key: NamedKey) -> dict[str, str]:
    return {"key_ID": str(key.key_id), "key": base64.b64encode(key.material).decode("ascii")}


def _error(status: int, message: str, details: object = None, headers: Any = None) -> web.Response:
    """Return an Error (table 13), with each code, so that every client can parse it."""
    kept = {name: value for name, value in (headers or {}).items() if name == "Allow"}
    body = {"message": message, **({"details": details} if details else {})}
    return web.json_response(body, status=status, headers=kept)


def _too_fast(wait_s: float) -> web.Response:
    return web.json_response(
        {"message": "too many requests"},
        status=503,
        headers={"Retry-After": str(math.ceil(wait_s))},
    )
