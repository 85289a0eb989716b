"""When a Reelmap may be open, which is to answer whoever asks without a key. Pure."""

from __future__ import annotations

from dataclasses import replace

from services.api.loopback import is_loopback
from shared.settings import SettingError, Settings


def refuse_open_to_others(settings: Settings) -> None:
    """Raise `SettingError` when no key is asked for and others than this machine could come in."""
    if settings.access != "open":
        return
    if not is_loopback(settings.api_host):
        raise SettingError(
            f"REELMAP_ACCESS (--access) is 'open' and REELMAP_API_HOST (--host) is {settings.api_host!r}: without keys "
            "the API listens on this machine's own addresses only, such as 127.0.0.1, for everybody who can reach it "
            "is let in. Set REELMAP_ACCESS=keys to let others in"
        )
    if settings.trusted_proxies:
        # It would believe the proxy's X-Forwarded-Host, which the browser of a stranger may have chosen.
        raise SettingError(
            f"REELMAP_ACCESS (--access) is 'open' and REELMAP_TRUSTED_PROXIES is {settings.trusted_proxies}: what "
            "comes through a proxy comes from others. Set REELMAP_ACCESS=keys, or REELMAP_TRUSTED_PROXIES=0"
        )


def by_address(settings: Settings) -> Settings:
    """The settings with access decided: as the person says, else open where only this machine can ask.

    Raises `SettingError` for a Reelmap that would be open to others.
    """
    if not settings.access:
        only_here = is_loopback(settings.api_host) and not settings.trusted_proxies
        settings = replace(settings, access="open" if only_here else "keys")
    refuse_open_to_others(settings)
    return settings
