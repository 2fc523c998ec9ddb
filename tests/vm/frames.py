"""What the guest's agent says (agent.c has the format), taken out of a stream of bytes."""
import struct
from dataclasses import dataclass

HEAD = struct.Struct(">4s4sII")
MAGIC = b"QVM1"
KINDS = b"RBOEXDF"
N_MOST = 1 << 20


class Broken(Exception):
    """The stream is not the agent's."""


@dataclass(frozen=True)
class Frame:
    kind: str
    number: int
    data: bytes

    @property
    def text(self):
        return self.data.decode(errors="replace")


class Decoder:
    def __init__(self):
        self.pending = b""

    def feed(self, data):
        """Yields the frames that are whole now. A frame cut short by a kill never comes."""
        self.pending += data
        while len(self.pending) >= HEAD.size:
            magic, kind, number, n_bytes = HEAD.unpack_from(self.pending)
            if magic != MAGIC or kind[:1] not in KINDS or kind[1:] != b"   " or n_bytes > N_MOST:
                raise Broken(f"not a frame: {self.pending[:HEAD.size]!r}")
            if len(self.pending) < HEAD.size + n_bytes:
                return
            data = self.pending[HEAD.size:HEAD.size + n_bytes]
            self.pending = self.pending[HEAD.size + n_bytes:]
            yield Frame(kind[:1].decode(), number, data)
