"""What the messages of yt-dlp and the statuses of servers mean: the kind of error, whether to try again, and the words.

yt-dlp reports a site's refusal as text: partly its own, partly the site's. The tables are ordered from the particular
to the general, and the first rule that matches decides. They were written from the messages in yt-dlp's extractors and
in its issue threads; the tests hold the real ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.clean_text import quoted
from shared.errors import ErrorKind, PermanentError, ReelmapError, TransientError


@dataclass(frozen=True)
class Rule:
    """What one family of messages means.

    says: what happened and what to do, to be put behind the video's URL.
    transient: it may go better later.
    retry_after_s: the least wait, where it is known from experience.
    """

    kind: ErrorKind
    says: str
    transient: bool = False
    retry_after_s: float | None = None


# (pattern, rule); searched in this order, ignoring case, in the message with straight apostrophes.
_MESSAGES: tuple[tuple[str, Rule], ...] = (
    (
        # The flag is on our address and stays for hours; trying again soon makes it worse.
        r"not a bot|captcha|unusual traffic|TLS fingerprint|anti-bot|cloudflare|JS challenge",
        Rule(
            ErrorKind.BOT_CHECK,
            "the site takes this machine for a robot; wait some hours or fetch from another network, then retry",
        ),
    ),
    (
        r"has been rate-limited by YouTube",
        Rule(
            ErrorKind.THROTTLED,
            "the site is limiting how much this machine may fetch",
            transient=True,
            retry_after_s=3600,
        ),
    ),
    (
        r"confirm your age|age.restrict|inappropriate for some users|age verif|NSFW tweet",
        Rule(ErrorKind.AGE_RESTRICTED, "the site asks for proof of age; download it yourself and upload the file"),
    ),
    (
        r"\bDRM\b",
        Rule(ErrorKind.DRM_PROTECTED, "the video is protected against copying (DRM) and cannot be read"),
    ),
    (
        r"(your|this) country|geo.?restrict|geo.?block|(your|this) (region|location)|available in \w+ only"
        r"|unavailable in your",
        Rule(ErrorKind.GEO_BLOCKED, "the video is not shown in the country this machine is in"),
    ),
    (
        r"private video|(video|vod|post|playlist|event) is (set to )?private|is a private|protected tweet"
        r"|not been made available to anyone",
        Rule(ErrorKind.PRIVATE, "the video is private; ask its owner for the file and upload it"),
    ),
    (
        r"live event|premieres? (in|will)|live ?stream|live broadcast|(is|are) (currently )?offline|not currently live"
        r"|is not live|this live has ended|twitter space (not started|ended)|will start (at|in)",
        Rule(
            ErrorKind.LIVE_STREAM,
            "it is a live stream or premiere: running, announced or just over; submit the recording once there is one",
        ),
    ),
    (
        r"members.only|join this channel|channel's members|for (premium )?members|subscri(ber|ption)|subscribe to"
        r"|premium|purchase|payment|requires? (a )?rent|supporter.only|password.protected|by a password"
        r"|--video-password|sign in (to|if)|log ?in|registered users|login|cookies are needed|for the authentication"
        r"|requires authentication|account (authentication|that has)|do not have permission|do not have access"
        r"|HTTP Error 401",
        Rule(
            ErrorKind.LOGIN_REQUIRED,
            "the site shows it only to people who are signed in, subscribed or know a password; "
            "download it yourself and upload the file",
        ),
    ),
    (
        r"HTTP Error 429|too many requests|rate.?limit|blocked by server \(4\d\d\)|rejected by server|try again later"
        r"|exceeded the rate",
        Rule(ErrorKind.THROTTLED, "the site is limiting how much this machine may fetch", transient=True),
    ),
    (
        r"terminated|has been removed|was removed|removed by|no longer available|no longer exists|in no longer"
        r"|(been|was|is|be) deleted|copyright|(has|link is|likely) expired|violat|closed their|taken down"
        r"|HTTP Error 410",
        Rule(ErrorKind.REMOVED, "the video was removed from the site"),
    ),
    (
        r"no space left|disk quota|unable to (write|open for writing)",
        Rule(ErrorKind.DISK_FULL, "there was no room on the worker's disk; free some", transient=True),
    ),
    (
        # Signed media addresses expire or are refused to one session; a new attempt gets new ones.
        r"unable to download video data: HTTP Error 403",
        Rule(ErrorKind.FORBIDDEN, "the site refused to send the video's data", transient=True),
    ),
    (
        r"HTTP Error 5\d\d|server.?side|internal server error|temporarily unavailable|service unavailable",
        Rule(ErrorKind.SERVER_ERROR, "the site had a fault of its own", transient=True),
    ),
    (
        r"timed? ?out|resolve|name resolution|name or service|connection (refused|reset|aborted)|reset by peer"
        r"|closed connection|unreachable host|network (is unreachable|error)|unable to connect|bytes read"
        r"|content too short|any data blocks|fragment \d+ not found|certificate|\bSSL|unexpected.EOF|incompleteread",
        Rule(ErrorKind.UNREACHABLE, "the connection to the site failed", transient=True),
    ),
    (
        r"requested format is not available|no video formats|only images are available|no supported formats"
        r"|ffmpeg could not be found",
        Rule(
            ErrorKind.NO_VIDEO_STREAM,
            "the site offers nothing that can be downloaded as a video; a newer yt-dlp may help",
        ),
    ),
    (
        r"extracted extension .* is unusual",
        Rule(ErrorKind.NOT_A_VIDEO, "the site sent a file of another kind; submit the video's own address"),
    ),
    (
        r"no (video|media)\b.*\b(found|post|page|tweet)|there('s| is) no video|not a (video|media)"
        r"|does(n't| not) (contain|have) (a|any) videos?|no videos? found|no video content",
        Rule(ErrorKind.NOT_A_VIDEO, "there is no video on this page; submit the video's own address"),
    ),
    (
        r"unsupported URL|no suitable extractor|not supported|no longer supported|unsupported page",
        Rule(
            ErrorKind.UNSUPPORTED_URL,
            "pages of this site cannot be read; submit the address of the video file, or upload it",
        ),
    ),
    (
        r"HTTP Error 403|forbidden|IP address is (blocked|unable)|not authorized|unreachable",
        Rule(ErrorKind.FORBIDDEN, "the site refused access"),
    ),
    (
        r"HTTP Error 404|not found|does not exist|doesn't exist|unavailable|not available|isn't available"
        r"|could not be found|truncated id|incomplete youtube id|looks truncated|not archived",
        Rule(ErrorKind.NOT_FOUND, "the site has no such video; check the address"),
    ),
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), rule) for pattern, rule in _MESSAGES)

_UNKNOWN_MESSAGE = Rule(
    ErrorKind.UNSUPPORTED_URL,
    "yt-dlp could not read this page; the site may have changed: update yt-dlp, or upload the file",
)

_STATUSES = {
    401: Rule(ErrorKind.LOGIN_REQUIRED, "the server asks for a sign-in; download it yourself and upload the file"),
    403: Rule(ErrorKind.FORBIDDEN, "the server refuses to give it out"),
    404: Rule(ErrorKind.NOT_FOUND, "the server has no such file; check the address"),
    407: Rule(ErrorKind.FORBIDDEN, "a proxy in between asks for a sign-in"),
    408: Rule(ErrorKind.UNREACHABLE, "the server gave up waiting", transient=True),
    410: Rule(ErrorKind.REMOVED, "the server says the file was removed for good"),
    425: Rule(ErrorKind.SERVER_ERROR, "the server is not ready to give it out", transient=True),
    429: Rule(ErrorKind.THROTTLED, "the server is limiting how much this machine may fetch", transient=True),
    451: Rule(ErrorKind.GEO_BLOCKED, "the server may not give it out for legal reasons, at least not in this country"),
}
_SERVER_FAULT = Rule(ErrorKind.SERVER_ERROR, "the server had a fault of its own", transient=True)
_ODD_STATUS = Rule(ErrorKind.FORBIDDEN, "the server did not accept the request; check the address")

#: Of what yt-dlp says; sites put whole pages into it, and patterns are not searched in those.
MAX_MESSAGE_CHARACTERS = 2000

# What yt-dlp adds around a site's own words: prefixes, and advice that makes sense on its command line only.
_PREFIX = re.compile(r"^(ERROR:\s*)?(\[[\w:.+-]+\]\s*)?([\w-]{1,64}:\s+(?=\S))?")
_URL = re.compile(r"https?://\S+")
_ADVICE = re.compile(
    r"(;? please report this issue on|\(caused by|\.? ?Use --|, use the --|\.? ?You might want to use a VPN"
    r"|\.? It is recommended to use|\.? ?Also see |\.? ?See +https?:).*",
    re.IGNORECASE | re.DOTALL,
)


def site_error(message: str, url: str) -> ReelmapError:
    """The error for what yt-dlp said of a URL, with the site's own words kept in it. To be raised by the caller."""
    message = message[:MAX_MESSAGE_CHARACTERS]
    # A rule must not be led astray by a word in a video's id or in a URL.
    text = _URL.sub("", _PREFIX.sub("", message.strip(), count=1)).replace("’", "'")
    rule = next((rule for pattern, rule in _COMPILED if pattern.search(text)), _UNKNOWN_MESSAGE)
    return _error(rule, url, _own_words(message), rule.retry_after_s)


def status_error(status: int, reason: str, url: str, retry_after_s: float | None = None) -> ReelmapError:
    """The error for an HTTP answer that is neither a file nor a redirect. To be raised by the caller.

    retry_after_s: what the server's Retry-After header asked for, if it had one.
    """
    rule = _STATUSES.get(status, _SERVER_FAULT if status >= 500 else _ODD_STATUS)
    return _error(rule, url, quoted(f"{status} {reason}"), retry_after_s)


def _own_words(message: str) -> str:
    return quoted(_ADVICE.sub("", _PREFIX.sub("", message.strip(), count=1)))


def _error(rule: Rule, url: str, words: str, retry_after_s: float | None) -> ReelmapError:
    sentence = f"{url}: {rule.says} (the answer was “{words}”)."
    if rule.transient:
        return TransientError(rule.kind, sentence, retry_after_s)
    return PermanentError(rule.kind, sentence)
