"""Real messages: from yt-dlp's extractors and downloaders, and as people pasted them into its issue threads."""

from __future__ import annotations

import pytest

from services.keyframes.fetching.site_errors import site_error, status_error
from shared.errors import ErrorKind, PermanentError, TransientError

COOKIE_HINT = (
    "Use --cookies-from-browser or --cookies for the authentication. See  "
    "https://github.com/yt-dlp/yt-dlp/wiki/FAQ#how-do-i-pass-cookies-to-yt-dlp  for how to manually pass cookies"
)
BUG_HINT = (
    "; please report this issue on  https://github.com/yt-dlp/yt-dlp/issues?q= , filling out the appropriate issue "
    "template. Confirm you are on the latest version using  yt-dlp -U"
)
RATE_LIMITED = (
    "ERROR: [youtube] aqz-KE-bpKQ: Video unavailable. This content isn't available, try again later. The current "
    "session has been rate-limited by YouTube for up to an hour. It is recommended to use `-t sleep` to add a delay "
    "between video requests to avoid exceeding the rate limit."
)

PERMANENT = [
    (ErrorKind.BOT_CHECK, f"ERROR: [youtube] tpUr8xVxj-w: Sign in to confirm you’re not a bot. {COOKIE_HINT}"),
    (ErrorKind.BOT_CHECK, f"ERROR: [youtube] Q1i3iDqIDBQ: Sign in to confirm you're not a bot. {COOKIE_HINT}"),
    (
        ErrorKind.BOT_CHECK,
        "ERROR: [youtube] abc: Video unavailable. YouTube is requiring a captcha challenge before playback",
    ),
    (
        ErrorKind.BOT_CHECK,
        "ERROR: [vimeo] 123: This request has been blocked due to its TLS fingerprint. Install a required "
        "impersonation dependency if possible",
    ),
    (ErrorKind.BOT_CHECK, "ERROR: [TikTok] 7: Unable to solve JS challenge" + BUG_HINT),
    (
        ErrorKind.PRIVATE,
        f"ERROR: [youtube] abc: Private video. Sign in if you've been granted access to this video. {COOKIE_HINT}",
    ),
    (ErrorKind.PRIVATE, "ERROR: [BiliBiliPlaylist] 1: This is a private playlist. You need to login as its owner"),
    (ErrorKind.PRIVATE, "ERROR: [loom] This VOD is private"),
    (
        ErrorKind.PRIVATE,
        f"ERROR: [twitter] 1: You are not authorized to view this protected tweet. {COOKIE_HINT}",
    ),
    (
        ErrorKind.NOT_A_VIDEO,
        "ERROR: The extracted extension ('desktop') is unusual and will be skipped for safety reasons. If you believe "
        "this is an error" + BUG_HINT,
    ),
    (ErrorKind.REMOVED, "ERROR: [youtube] abc: Video unavailable. This video has been removed by the uploader"),
    (
        ErrorKind.REMOVED,
        "ERROR: [youtube] abc: Video unavailable. This video is no longer available because the YouTube account "
        "associated with this video has been terminated.",
    ),
    (
        ErrorKind.REMOVED,
        "ERROR: [youtube] abc: Video unavailable. This video is no longer available due to a copyright claim by Foo",
    ),
    (
        ErrorKind.REMOVED,
        "ERROR: [youtube] abc: Video unavailable. This video is no longer available because the uploader has closed "
        "their YouTube account.",
    ),
    (
        ErrorKind.REMOVED,
        "ERROR: [youtube] abc: This video has been removed for violating YouTube's policy on hate speech.",
    ),
    (ErrorKind.REMOVED, "ERROR: [twitch:clips] X: This clip is no longer available"),
    (ErrorKind.REMOVED, "ERROR: [pbs] Content not found; it has most likely expired"),
    (ErrorKind.REMOVED, "ERROR: [Rutube] Video was deleted"),
    (
        ErrorKind.GEO_BLOCKED,
        "ERROR: [youtube] ltcd1B8WyTM: Video unavailable. The uploader has not made this video available in your "
        "country\nYou might want to use a VPN or a proxy server (with --proxy) to workaround.",
    ),
    (
        ErrorKind.GEO_BLOCKED,
        "ERROR: [youtube] abc: Video unavailable. This video contains content from SME, who has blocked it in your "
        "country on copyright grounds",
    ),
    (
        ErrorKind.GEO_BLOCKED,
        "ERROR: [BBC] 1: This video is not available from your location due to geo restriction\nYou might want to use "
        "a VPN or a proxy server (with --proxy) to workaround.",
    ),
    (ErrorKind.GEO_BLOCKED, "ERROR: [LiTV] 1: This video is available in Taiwan only"),
    (ErrorKind.GEO_BLOCKED, "ERROR: [AudiusTrack] Track unavailable in your country due to licensing restrictions"),
    (
        ErrorKind.AGE_RESTRICTED,
        "ERROR: [youtube] abc: Sign in to confirm your age. This video may be inappropriate for some users. "
        + COOKIE_HINT,
    ),
    (ErrorKind.AGE_RESTRICTED, f"ERROR: [twitter] 1: NSFW tweet requires authentication. {COOKIE_HINT}"),
    (ErrorKind.AGE_RESTRICTED, "ERROR: [arte] This video is only available for age verified users or after 22:00"),
    (
        ErrorKind.LOGIN_REQUIRED,
        "ERROR: [youtube] h7aSM88pUv8: Join this channel to get access to members-only content like this video, and "
        "other exclusive perks.",
    ),
    (
        ErrorKind.LOGIN_REQUIRED,
        "ERROR: [youtube] 8AJ: This video is available to this channel's members on level: Bonus Videos! (or any "
        "higher level). Join this channel to get access to members-only content and other exclusive perks.",
    ),
    (ErrorKind.LOGIN_REQUIRED, "ERROR: [youtube] abc: This video requires payment to watch"),
    (
        ErrorKind.LOGIN_REQUIRED,
        f"ERROR: [facebook] 1: This video is only available for registered users. {COOKIE_HINT}",
    ),
    (
        ErrorKind.LOGIN_REQUIRED,
        "ERROR: [vimeo] 1: This video is protected by a password, use the --video-password option",
    ),
    (
        ErrorKind.LOGIN_REQUIRED,
        f"ERROR: [Instagram] C1: You need to log in to access this content. {COOKIE_HINT}",
    ),
    (
        ErrorKind.LOGIN_REQUIRED,
        "ERROR: [TikTok] 7: You do not have permission to view this post. Log into an account that has access. "
        + COOKIE_HINT,
    ),
    (ErrorKind.LOGIN_REQUIRED, "ERROR: [vimeo] 1: Unable to download webpage: HTTP Error 401: Unauthorized"),
    (ErrorKind.LOGIN_REQUIRED, "ERROR: [BiliBili] BV1: This video is for premium members only"),
    (ErrorKind.LIVE_STREAM, "ERROR: [youtube] abc: This live event will begin in 3 hours."),
    (ErrorKind.LIVE_STREAM, "ERROR: [youtube] abc: Premieres in 46 minutes"),
    (ErrorKind.LIVE_STREAM, "ERROR: [youtube] abc: Premiere will begin shortly"),
    (ErrorKind.LIVE_STREAM, "ERROR: [youtube] abc: This live stream recording is not available."),
    (ErrorKind.LIVE_STREAM, "ERROR: [youtube] abc: This live event has ended."),
    (ErrorKind.LIVE_STREAM, "ERROR: [twitch:stream] foo: The channel is not currently live"),
    (ErrorKind.LIVE_STREAM, "ERROR: [twitter:broadcast] 1: This live broadcast has not yet started"),
    (ErrorKind.DRM_PROTECTED, "ERROR: [youtube] abc: This video is DRM protected"),
    (
        ErrorKind.DRM_PROTECTED,
        "ERROR: [DRM] The requested site is known to use DRM protection. It will NOT be supported.",
    ),
    (ErrorKind.UNSUPPORTED_URL, "ERROR: Unsupported URL: https://example.com/page"),
    (ErrorKind.UNSUPPORTED_URL, "ERROR: No suitable extractor found for URL https://example.com/page"),
    (
        ErrorKind.UNSUPPORTED_URL,
        "ERROR: [Piracy] This website is no longer supported since it has been determined to be primarily used for "
        "piracy.",
    ),
    (ErrorKind.UNSUPPORTED_URL, "ERROR: [somesite] 1: Unable to extract title" + BUG_HINT),
    (
        ErrorKind.NO_VIDEO_STREAM,
        "ERROR: [youtube] abc: Requested format is not available. Use --list-formats for a list of available formats",
    ),
    (
        ErrorKind.NO_VIDEO_STREAM,
        "ERROR: m3u8 download detected but ffmpeg could not be found. Please install",
    ),
    (ErrorKind.NO_VIDEO_STREAM, "ERROR: [NRK] 1: No video formats found!" + BUG_HINT),
    (ErrorKind.NOT_A_VIDEO, "ERROR: [twitter] 1: No video could be found in this tweet"),
    (ErrorKind.NOT_A_VIDEO, "ERROR: [Instagram] C1: There is no video in this post"),
    (ErrorKind.NOT_A_VIDEO, "ERROR: [Reddit] abc: No media found"),
    (ErrorKind.NOT_A_VIDEO, "ERROR: [nytimes] This article does not contain a video"),
    (ErrorKind.NOT_FOUND, "ERROR: [youtube] XyHm0BmtLHg: Video unavailable"),
    (ErrorKind.NOT_FOUND, "ERROR: [youtube] abc: This video isn't available anymore"),
    (
        ErrorKind.NOT_FOUND,
        "ERROR: [vimeo] 826375357: Unable to download webpage: HTTP Error 404: Not Found (caused by <HTTPError 404: "
        "Not Found>)" + BUG_HINT,
    ),
    (ErrorKind.NOT_FOUND, "ERROR: [twitch:vod] Video v1 does not exist"),
    (
        ErrorKind.NOT_FOUND,
        "ERROR: [youtube:truncated_id] abc: Incomplete YouTube ID abc. URL https://youtu.be/abc looks truncated.",
    ),
    (
        ErrorKind.FORBIDDEN,
        "ERROR: [vimeo] 1: Unable to download JSON metadata: HTTP Error 403: Forbidden (caused by <HTTPError 403: "
        "Forbidden>)",
    ),
    (ErrorKind.FORBIDDEN, "ERROR: [TikTok] 7: Your IP address is blocked from accessing this post"),
]

TRANSIENT = [
    (ErrorKind.THROTTLED, RATE_LIMITED),
    (
        ErrorKind.THROTTLED,
        "ERROR: [youtube] abc: Unable to download webpage: HTTP Error 429: Too Many Requests (caused by <HTTPError "
        "429: Too Many Requests>)",
    ),
    (ErrorKind.THROTTLED, "ERROR: [BiliBili] 1: Request is blocked by server (412), please wait and try later."),
    (ErrorKind.THROTTLED, "ERROR: [soop] You have exceeded the rate limit. Try again later"),
    (ErrorKind.FORBIDDEN, "ERROR: unable to download video data: HTTP Error 403: Forbidden"),
    (ErrorKind.SERVER_ERROR, "ERROR: [vimeo] 1: Unable to download webpage: HTTP Error 503: Service Unavailable"),
    (ErrorKind.SERVER_ERROR, "ERROR: [ntv] There is an error on server-side. Try again."),
    (
        ErrorKind.UNREACHABLE,
        "ERROR: [generic] Unable to download webpage: [Errno 111] Connection refused (caused by "
        "TransportError('[Errno 111] Connection refused'))",
    ),
    (
        ErrorKind.UNREACHABLE,
        "ERROR: [youtube] abc: Unable to download API page: Failed to resolve 'www.youtube.com' ([Errno -2] Name or "
        "service not known)",
    ),
    (ErrorKind.UNREACHABLE, "ERROR: [youtube] abc: Unable to download webpage: The read operation timed out"),
    (ErrorKind.UNREACHABLE, "ERROR: content too short (expected 1000 bytes and served 10)"),
    (ErrorKind.UNREACHABLE, "ERROR: 1024 bytes read, 2048 more expected"),
    (ErrorKind.UNREACHABLE, "ERROR: fragment 3 not found, unable to continue"),
    (ErrorKind.UNREACHABLE, "ERROR: Did not get any data blocks"),
    (ErrorKind.DISK_FULL, "ERROR: unable to write data: [Errno 28] No space left on device"),
]

URL = "https://video.example/v"


@pytest.mark.parametrize(("kind", "message"), PERMANENT)
def test_messages_that_would_come_again_fail_for_good(kind: ErrorKind, message: str) -> None:
    error = site_error(message, URL)
    assert (type(error), error.kind) == (PermanentError, kind)


@pytest.mark.parametrize(("kind", "message"), TRANSIENT)
def test_messages_of_the_moment_are_tried_again(kind: ErrorKind, message: str) -> None:
    error = site_error(message, URL)
    assert (type(error), error.kind) == (TransientError, kind)


def test_words_in_ids_and_urls_mean_nothing() -> None:
    assert site_error("ERROR: [youtube] login-429-SSL: Video unavailable", URL).kind is ErrorKind.NOT_FOUND
    assert site_error("ERROR: Unsupported URL: https://x.example/login/captcha", URL).kind is ErrorKind.UNSUPPORTED_URL


def test_a_known_waiting_time_is_kept() -> None:
    error = site_error(RATE_LIMITED, URL)
    assert isinstance(error, TransientError)
    assert error.retry_after_s == 3600


def test_the_sentence_names_the_url_and_keeps_the_words_of_the_site_without_advice_for_a_terminal() -> None:
    error = site_error(f"ERROR: [youtube] tpUr8xVxj-w: Sign in to confirm you’re not a bot. {COOKIE_HINT}", URL)
    assert error.message.startswith(URL)
    assert "“Sign in to confirm you’re not a bot”" in error.message
    error = site_error("ERROR: [somesite] 1: Unable to extract title" + BUG_HINT, URL)
    assert "“Unable to extract title”" in error.message


def test_long_messages_are_cut() -> None:
    assert len(site_error("ERROR: " + "word " * 1000, URL).message) < 500


@pytest.mark.parametrize(
    ("status", "kind", "family"),
    [
        (400, ErrorKind.FORBIDDEN, PermanentError),
        (401, ErrorKind.LOGIN_REQUIRED, PermanentError),
        (403, ErrorKind.FORBIDDEN, PermanentError),
        (404, ErrorKind.NOT_FOUND, PermanentError),
        (410, ErrorKind.REMOVED, PermanentError),
        (429, ErrorKind.THROTTLED, TransientError),
        (451, ErrorKind.GEO_BLOCKED, PermanentError),
        (500, ErrorKind.SERVER_ERROR, TransientError),
        (503, ErrorKind.SERVER_ERROR, TransientError),
        (599, ErrorKind.SERVER_ERROR, TransientError),
    ],
)
def test_what_a_status_means(status: int, kind: ErrorKind, family: type) -> None:
    error = status_error(status, "Reason", URL, retry_after_s=7)
    assert (type(error), error.kind) == (family, kind)
    assert f"{status} Reason" in error.message
    assert not isinstance(error, TransientError) or error.retry_after_s == 7
