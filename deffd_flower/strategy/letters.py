"""Messages to clients, as Flower carries them, and what mail was in them."""

from collections.abc import Iterable, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from deffd_flower.strategy.consignment import Consignment
from deffd_flower.strategy.mailbox import Mail
from deffd_flower.strategy.orders import Orders, Parcel, Refusals
from deffd_flower.strategy.roster import Roster


class Letters:
    """Writes to the clients, and knows what they were sent until they have answered.

    Args:
        roster: The clients.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._enclosed: dict[tuple[str, int], Sequence[Mail]] = {}

    def write(
        self,
        partition: int,
        message_type: str,
        orders: Orders,
        mail: Sequence[Mail],
        config: ConfigRecord,
    ) -> Message:
        """Return a message to a client.

        Args:
            partition: Partition id of the client.
            message_type: ``train`` or ``evaluate``.
            orders: What it is to do.
            mail: What has come for it.
            config: The user's own keys beside the orders.
        """
        content = RecordDict({"config": orders.record(config)})
        self._enclosed[message_type, partition] = mail
        if mail:
            content["inbox"] = ArrayRecord({str(i): m.sealed for i, m in enumerate(mail)})
        node_id = self._roster.node_id(partition)
        return Message(content, node_id, message_type, group_id=str(orders.server_round))

    def parcels(self, consigned: Iterable[Consignment]) -> tuple[Parcel, ...]:
        """Return consignments of one sender as its orders name them."""
        return tuple(map(self._parcel, consigned))

    def unopened(self, partition: int, reply: Message) -> list[Mail]:
        """Return the mail that a client could not open, as it says in its reply."""
        mail = self._enclosed.pop((reply.metadata.message_type, partition), [])
        places = Refusals.read(reply.content).unopened
        return [each for place, each in enumerate(mail) if place in places]

    def _parcel(self, consignment: Consignment) -> Parcel:
        transfer = consignment.transfer
        receiver = self._roster.members[transfer.receiver]
        return Parcel(
            receiver=transfer.receiver,
            suite=consignment.suite,
            segments=transfer.segments,
            references=consignment.references,
            kem_public=receiver.kem_public,
            kem_proof=receiver.kem_proof,
        )
