"""Flows that the kernel remembers: what is translated once stays so, whatever the rules say since.

The rules are asked for the first packet of a flow only. So when a container has gone, a client
that goes on sending (datagrams above all) would still be led to its address, and some day to
another container there; and never to the next container on the same port.
"""

from __future__ import annotations

import _socket
import struct
from errno import ENOENT

from ..kernel.netlink import DUMP, Socket, attribute, attributes

CHAPTER = 13

# <linux/netfilter/nfnetlink.h>, <linux/netfilter/nfnetlink_conntrack.h>
_NETFILTER, _GET, _DELETE = 12, 1 << 8 | 1, 1 << 8 | 2
_ORIGINAL, _REPLY, _FILTER = 1, 2, 25
_TUPLE_IP, _SOURCE = 1, {_socket.AF_INET: 1, _socket.AF_INET6: 3}
_FILTER_REPLY, _BY_SOURCE = 2, 1
_NESTED = 0x8000


def forget(address: str) -> int:
    """Forget all flows that are translated to an address, of any protocol; how many there were.

    Call it when no rule leads there any more, or new ones come. SyscallError.
    """
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    packed = _socket.inet_pton(family, address)
    head = struct.pack("BBH", family, 0, 0)
    question = head
    if family == _socket.AF_INET:
        # Since Linux 5.8 the kernel can choose. With IPv6 it gives all but those that were asked
        # for (seen with 6.18), so there we look at all of them, as on an older kernel.
        source = attribute(_TUPLE_IP | _NESTED, attribute(_SOURCE[family], packed))
        question += attribute(_REPLY | _NESTED, source)
        by_source = attribute(_FILTER_REPLY, struct.pack("I", _BY_SOURCE))
        question += attribute(_FILTER | _NESTED, by_source)
    netfilter = Socket(_NETFILTER)
    try:
        found = [
            attributes(answer[len(head) :])
            for answer in netfilter.ask(_GET, DUMP, question, f"flows to {address}")
        ]
        flows = [told[_ORIGINAL] for told in found if _source(told[_REPLY], family) == packed]
        for flow in flows:
            try:
                body = head + attribute(_ORIGINAL | _NESTED, flow)
                netfilter.ask(_DELETE, 0, body, f"a flow to {address}")
            except OSError as error:
                if error.errno != ENOENT:  # it has ended by itself
                    raise
    finally:
        netfilter.close()
    return len(flows)


def _source(flow: bytes, family: int) -> bytes | None:
    return attributes(attributes(flow)[_TUPLE_IP]).get(_SOURCE[family])
