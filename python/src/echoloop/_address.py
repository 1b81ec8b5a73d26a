"""Addresses: the text that the library takes, the tuples that Python sockets have.

The rule: an address is numeric. Nothing here asks a name server, for that would block the loop;
``localhost`` is 127.0.0.1 without asking, and an empty host is every IPv4 address.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Union

#: What functions take: ``"127.0.0.1:7007"``, ``"[::1]:7007"`` or a tuple such as ``("::1", 7007)``.
AddressLike = Union[str, "tuple[Any, ...]"]

_NAMED = {"localhost": "127.0.0.1", "": "0.0.0.0"}


def address_text(address: AddressLike, port: int | None = None) -> str:
    """The text of an address, for the library and for people.

    >>> address_text("127.0.0.1:7007"), address_text("localhost", 7007), address_text(":80")
    ('127.0.0.1:7007', '127.0.0.1:7007', '0.0.0.0:80')
    >>> address_text(("::1", 7007)), address_text(("fe80::1", 7007, 0, 2))
    ('[::1]:7007', '[fe80::1%2]:7007')
    """
    if isinstance(address, str):
        host, scope = address, 0
        if port is None:
            host, colon, digits = address.rpartition(":")
            if not colon or not digits.isascii() or not digits.isdigit():
                raise ValueError(f"'{address}' is not an address; write IP:PORT, or give a port")
            port = int(digits)
    else:
        if port is not None or len(address) not in (2, 4):
            raise ValueError(f"{address!r} is not an address; write (host, port)")
        host, port = address[:2]
        scope = address[3] if len(address) == 4 else 0
    if not isinstance(host, str) or not isinstance(port, int):
        raise TypeError("the host of an address is a str, its port an int")
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is not between 0 and 65535")
    host = _NAMED.get(host, host)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        version = ipaddress.ip_address(host.partition("%")[0]).version
    except ValueError:
        raise ValueError(
            f"'{host}' is not a numeric address; resolve names first, with socket.getaddrinfo"
        ) from None
    if version == 4:
        return f"{host}:{port}"
    return f"[{host}%{scope}]:{port}" if scope else f"[{host}]:{port}"


def address_tuple(text: str) -> tuple[Any, ...]:
    """The tuple that ``socket.getsockname`` would give for an address.

    >>> address_tuple("127.0.0.1:7007"), address_tuple("[fe80::1%2]:7007")
    (('127.0.0.1', 7007), ('fe80::1', 7007, 0, 2))
    """
    host, _, port = text.rpartition(":")
    if not host.startswith("["):
        return host, int(port)
    host, _, scope = host[1:-1].partition("%")
    return host, int(port), 0, int(scope or 0)
