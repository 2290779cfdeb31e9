"""The channel for other KMEs: takes their messages to the parts that answer them."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from aiohttp import web
from pydantic import ValidationError

from deffd_flower.errors import DeffdError
from deffd_flower.kme.agent import KeyManagementAgent
from deffd_flower.kme.links import LinkKeeper
from deffd_flower.kme.messages import Delivery, Greeting, LotOffer, Message, PeerError, Refusal
from deffd_flower.kme.neighbour import PATH, Neighbour
from deffd_flower.kme.tls import common_name

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Message)


class PeerChannel:
    """Answers neighbours, whom mutual TLS has identified by the CN of their certificate.

    Args:
        neighbours: Who may speak.
        links: Answers greetings and offers of key.
        agent: Takes keys.
        most_bytes: Longest message.
    """

    def __init__(
        self,
        neighbours: Mapping[str, Neighbour],
        links: LinkKeeper,
        agent: KeyManagementAgent,
        most_bytes: int,
    ) -> None:
        self._neighbours = neighbours
        self._links = links
        self._agent = agent
        self._most_bytes = most_bytes

    def application(self) -> web.Application:
        """Return the application to be served with mutual TLS."""
        app = web.Application(client_max_size=self._most_bytes)
        app.router.add_post(f"{PATH}/greeting", self._handler(Greeting, self._links.greeted))
        app.router.add_post(f"{PATH}/lots", self._handler(LotOffer, self._links.take_lot))
        app.router.add_post(f"{PATH}/keys", self._handler(Delivery, self._agent.take_delivery))
        return app

    def _handler(
        self, kind: type[T], answer: Callable[[Neighbour, T], Awaitable[Message]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            sender = self._neighbours.get(common_name(request.transport))
            if sender is None:
                return _json(Refusal(reason="refused", message="not a neighbour"), 401)
            try:
                message = kind.model_validate_json(await request.read())
                sender.spoke()
                return _json(await answer(sender, message), 200)
            except ValidationError:
                return _json(Refusal(reason="refused", message="no such message"), 400)
            except PeerError as problem:
                return _json(Refusal(reason=problem.reason, message=str(problem)), 409)
            except DeffdError as problem:
                return _json(Refusal(reason="busy", message=str(problem)), 503)

        return handle


def _json(message: Message, status: int) -> web.Response:
    body = message.model_dump_json().encode()
    return web.Response(body=body, status=status, content_type="application/json")
