"""A relay of bytes between SuperNodes and SuperLink that keeps all it sees."""

import socket
import threading
from contextlib import suppress


class RecordingProxy:
    """Listens on a free port and hands everything on, in both directions.

    Args:
        target: Port of this machine to connect to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._heard: list[bytearray] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def seen(self) -> bytes:
        """All bytes of all connections."""
        return b"".join(map(bytes, list(self._heard)))

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._hand_on, args=(source, sink), daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket) -> None:
        # A heap per connection and direction: a secret may lie across two packets.
        heard = bytearray()
        self._heard.append(heard)
        with suppress(OSError):
            while chunk := source.recv(65_536):
                heard += chunk
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
