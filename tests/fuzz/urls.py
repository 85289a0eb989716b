"""Throws hostile URLs at the fetcher: `python -m tests.fuzz.urls [--count 1000] [--seed 1]`. A seed is a set of URLs.

Each URL is put together at random from schemes, users, hosts in every odd spelling, ports and paths, all of which lead
where nobody may go. It is submitted itself, or a public server redirects to it, or a public page names it as its video
and yt-dlp reads the page. Nobody may be connected to, and each has to end in time with a sentence for a person.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from services.keyframes.fetching.fetch import FetchLimits, Reach, fetch
from shared.errors import ErrorKind, ReelmapError
from tests.fuzz.internet import PUBLIC, Canaries, Internet
from tests.fuzz.site_reader import SiteReader

LIMITS = FetchLimits(
    max_bytes=1_000_000,
    max_redirects=3,
    connect_timeout_s=1,
    read_timeout_s=2,
    total_timeout_s=10,
    max_duration_s=60,
)
AS_BY_DEFAULT = Reach()
_OVER_TIME_S = 2.0  # from the deadline to the sentence
_CHILD_EVERY = 30  # how many pages are read between two that the fetcher's own child reads

# Not data:, which in a page is the page's own bytes and no connection.
SCHEMES = [
    *["http://"] * 90,
    *["https://"] * 30,
    *("HTTP://", "hTtPs://", " http://", "http:/", "http:", "http:////", "http:\\\\", "http://http://", "//", ""),
    *("file://", "ftp://", "gopher://", "dict://", "ldap://", "rtmp://", "rtsp://", "ws://", "s3://", "smb://"),
    *("javascript://", "jar:http://", "view-source:http://", "upload:", "concat:http://"),
]
USERS = [
    *[""] * 60,
    *("me@", "me:secret@", "public.example@", "public.example:80@", "public.example%40", "public.example\\@"),
    *("public.example/a.mp4#@", "public.example/a.mp4?@", "public.example/@", "[::1]@", "@", "%00@"),
]
# What the system's resolver reads as an address that nobody may go to, in whatever spelling.
NUMBERS = [
    *("127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.254", "127.1", "127.0.1", "127.00.00.01", "127.0.0.1."),
    *("0x7f000001", "0x7f.1", "0X7F.0x0.0x0.0x1", "0177.0.0.1", "017700000001", "00000177.0.0.1", "2130706433", "0"),
    *("①②⑦.⓪.⓪.①", "１２７.0.0.1", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "%31%32%37.0.0.1"),
    *("10.0.0.1", "10.1", "0xa000001", "172.16.0.1", "192.168.1.1", "3232235777", "169.254.169.254", "0xa9fea9fe"),
    *("2852039166", "100.64.0.1", "0.0.0.0", "0.1.2.3", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "192.88.99.1", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]"),
    *("[::ffff:7f00:1]", "[::FFFF:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"),
    *("[2001:0:7f00:1::]", "[fd00::1]", "[fe80::1]", "[fe80::1%25lo]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]"),
    *("[5f00::1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a00:1]", "::1", "[::1", "[127.0.0.1]", "[v1.::1]"),
]
# Names that lead inside, at the first look-up or a later one.
NAMES = {
    "localhost": [["127.0.0.1", "::1"]],
    "inside.example": [["10.0.0.1"]],
    "mixed.example": [[PUBLIC, "127.0.0.1"]],
    "mixed6.example": [[PUBLIC, "::1"]],
    "six.example": [["fd00::1"]],
    "nat64.example": [["64:ff9b::7f00:1"]],
    "metadata.google.internal": [["169.254.169.254"]],
}
SPELLED_NAMES = [*NAMES, "LOCALHOST", "localhost.", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "lоcalhost", "inside.example.", "localhost%00.example"]
REBINDING = "rebinding.example"
PORTS = [
    *[""] * 24,
    ":80",
    ":443",
    ":0080",
    ":8080",
    ":22",
    ":6379",
    ":5432",
    ":0",
    ":65536",
    ":-1",
    ":x",
    ":８０",
    ":",
]
PATHS = [
    *("/a.mp4", "/a.webm", "/a.mp4?x=1", "/..;/a.mp4", "/%2e%2e/a.mp4", "//a.mp4", "/a b.mp4", "/ä.mp4", "\\a.mp4"),
    *(
        "/a.mp4#@public.example/",
        "?@public.example/a.mp4",
        "#.mp4",
        "/a.mp4\r\nHost: inside",
        "/a\0.mp4",
        "/\u202ea.mp4",
    ),
    *("/latest/meta-data/a.mp4", "/" + "a" * 3000 + ".mp4", ".mp4", "/redirect?to=http://127.0.0.1/a.mp4", "/a.m3u8"),
]
PAGES = [
    "<video src='{url}'></video>",
    "<video><source src='{url}' type='video/mp4'></video>",
    '<meta property="og:video" content="{url}">',
    '<meta http-equiv="refresh" content="0;url={url}">',
    '<script type=\'application/ld+json\'>{{"@context": "https://schema.org", "@type": "VideoObject", '
    '"name": "x", "contentUrl": "{url}"}}</script>',
    "<script>jwplayer('x').setup({{file: '{url}'}});</script>",
    "<iframe src='{url}'></iframe><video src='{url}'></video>",
]
PLAYLISTS = [
    "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{url}\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
    '#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n',
    '#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI="{url}"\n#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n',
]


@dataclass
class Report:
    """What became of the URLs. connections: to canaries, and tries to connect where nobody may."""

    seed: int
    ways: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    connections: list[tuple[str, int]] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        ways = ", ".join(f"{count} {way}" for way, count in self.ways.most_common())
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.kinds.most_common())
        return (
            f"seed {self.seed}: {self.ways.total()} hostile URLs tried ({ways}); refused: {kinds}; "
            f"without a sentence in time: {len(self.wrong)}; connections to canaries: {len(self.connections)}; "
            f"{self.seconds:.1f} s"
        )


class _PublicServer:
    """The one web server of the made-up internet; what it says to a path is written before it is asked."""

    def __init__(self) -> None:
        answers = self.answers = {}  # type: dict[str, tuple[int, dict[str, str], bytes]]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = answers.get(self.path, (404, {}, b"nothing here"))
                self.send_response_only(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value.encode().decode("latin-1"))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_port

    def __enter__(self) -> _PublicServer:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Attack:
    """One run of hostile URLs against the fetcher."""

    def __init__(
        self,
        seed: int,
        reach: Reach,
        *,
        folder: Path,
        server: _PublicServer,
        canary_ports: list[int],
        reader: SiteReader,
    ) -> None:
        self._random = random.Random(seed)
        self._reach = reach
        self._folder = folder
        self._server = server
        self._ports = PORTS + [f":{port}" for port in canary_ports]
        self._reader = reader
        self._pages = 0
        self.report = Report(seed)

    def hostile_url(self) -> str:
        choice = self._random.choice
        host = choice([*NUMBERS, *SPELLED_NAMES, *[REBINDING] * 5])
        # Only what looks like a file is asked for directly; the rest would each start a process of yt-dlp.
        path = "/a.mp4" if host == REBINDING else choice(PATHS)
        return choice(SCHEMES) + choice(USERS) + host + choice(self._ports) + path

    def strike(self, number: int, internet: Internet) -> None:
        """Try one URL in one way, and note what came of it."""
        internet.names[REBINDING] = [[PUBLIC], ["127.0.0.1"]]
        way, submitted, get = self._prepared(number, self.hostile_url())
        self.report.ways[way] += 1
        started_s = time.monotonic()
        try:
            got = get()
            self.report.wrong.append(f"{way} {submitted!r} gave {got!r}")
        except ReelmapError as error:
            self.report.kinds[error.kind] += 1
            took_s = time.monotonic() - started_s
            late = took_s > LIMITS.total_timeout_s + _OVER_TIME_S
            if late or error.kind is ErrorKind.INTERNAL or len(error.message) < 20 or error.message[-1] != ".":
                self.report.wrong.append(f"{way} {submitted!r} after {took_s:.1f} s: {error.kind}: {error.message}")
        except Exception as error:
            self.report.wrong.append(f"{way} {submitted!r} raised {error!r}")

    def _prepared(self, number: int, hostile: str) -> tuple[str, str, Callable[[], object]]:
        """In which way a URL is tried, what is submitted, and how."""
        one_line = "".join(c for c in hostile if c not in "\r\n\0")
        match self._random.randrange(12):
            case 0:
                page = f"http://public.example{self._page(number, one_line)}"
                self._pages += 1
                if self._pages % _CHILD_EVERY == 0:
                    return "in a page, read by a child", page, lambda: self._fetch(page, generic=True)
                return "in a page", page, lambda: self._reader.read(page, self._folder, LIMITS, self._reach)
            case 1 | 2 | 3:
                first = f"http://public.example{self._redirects(number, one_line)}"
                return "by redirect", first, lambda: self._fetch(first)
            case _:
                return "as typed", hostile, lambda: self._fetch(hostile)

    def _fetch(self, url: str, generic: bool = False) -> object:
        return fetch(url, self._folder, LIMITS, reach=self._reach, check=lambda: None, allow_generic_extractor=generic)

    def _redirects(self, number: int, hostile: str) -> str:
        """The path from which one to three redirects lead to the URL."""
        hops = [f"/{number}-{hop}.mp4" for hop in range(self._random.randint(1, 3))]
        for hop, target in zip(hops, [*hops[1:], hostile], strict=True):
            self._server.answers[hop] = (self._random.choice([301, 302, 303, 307, 308]), {"Location": target}, b"")
        return hops[0]

    def _page(self, number: int, hostile: str) -> str:
        """The path of a page, or a list of segments, in which the URL stands."""
        template = self._random.choice([*PAGES, *PLAYLISTS])
        body = template.format(url=hostile)
        if template in PAGES:
            answer = {"Content-Type": "text/html; charset=utf-8"}, f"<!DOCTYPE html><html><body>{body}</body></html>"
        else:
            answer = {"Content-Type": "application/vnd.apple.mpegurl"}, body
        self._server.answers[f"/{number}"] = (200, answer[0], answer[1].encode())
        return f"/{number}"


@contextmanager
def attack(seed: int, reach: Reach) -> Iterator[tuple[Attack, Internet]]:
    """An attack on an internet of its own; afterwards its report knows who was connected to."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _PublicServer() as server,
        Canaries() as canaries,
        SiteReader() as reader,
    ):
        internet = Internet(server.port)
        internet.names.update({name: list(answers) for name, answers in NAMES.items()})
        internet.names["public.example"] = [[PUBLIC]]
        this = Attack(seed, reach, folder=Path(folder), server=server, canary_ports=canaries.ports, reader=reader)
        with internet.in_place_of_the_real_one():
            yield this, internet
        this.report.connections = [*canaries.visits, *internet.trapped]


def run(count: int, seed: int, reach: Reach = AS_BY_DEFAULT) -> Report:
    """Try `count` hostile URLs. reach: another than the default, to see that what gets through is noticed."""
    started_s = time.monotonic()
    with attack(seed, reach) as (this, internet):
        for number in range(count):
            this.strike(number, internet)
    this.report.seconds = time.monotonic() - started_s
    return this.report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = run(arguments.count, arguments.seed)
    print(report)
    for line in [*report.wrong, *report.connections]:
        print(f"  {line}")
    sys.exit(bool(report.wrong or report.connections))


if __name__ == "__main__":
    main()
