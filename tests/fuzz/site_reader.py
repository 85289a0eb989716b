"""yt-dlp behind the egress proxy, for many pages in a row: the fetcher's way, without a second of start per page."""

from __future__ import annotations

import multiprocessing
import socket
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from services.keyframes.fetching.limits import FetchLimits
from services.keyframes.fetching.sites import SiteVideo, _outcome, _Request, _serve
from shared.egress.addresses import Reach
from shared.egress.proxy import EgressProxy


def _stay_on_this_machine() -> None:
    """Whatever is tried here, no packet leaves: names are not looked up, and only loopback is connected to."""
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        return look_up(host, port, *args, **{**options, "flags": socket.AI_NUMERICHOST})

    def connect_here(own: socket.socket, address: Any) -> None:
        if own.family in (socket.AF_INET, socket.AF_INET6) and not ip_address(address[0]).is_loopback:
            raise ConnectionRefusedError(f"{address[0]} is not on this machine")
        connect(own, address)

    socket.getaddrinfo = getaddrinfo
    socket.socket.connect = connect_here  # type: ignore[method-assign]


class SiteReader:
    """One process that does the work of the fetcher's children, open inside `with`.

    It is another process than the test's, so it meets the made-up internet through the proxy only; and it stands
    outside the kernel's fence, so the proxy alone is what is tried.
    """

    def __enter__(self) -> SiteReader:
        self._pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_stay_on_this_machine
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def read(self, url: str, folder: Path, limits: FetchLimits, reach: Reach) -> SiteVideo | None:
        """What `fetch_from_site` returns or raises, with the generic extractor allowed."""
        with EgressProxy(reach, limits) as proxy:
            request = _Request(url, str(folder), asdict(limits), True, 0, proxy.url, proxy.port)
            answer = self._pool.submit(_serve, request).result(timeout=limits.total_timeout_s)
        return _outcome(answer, request, limits, proxy)
