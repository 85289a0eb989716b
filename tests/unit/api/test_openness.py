"""Who is let in without a key: nobody but this machine itself."""

from __future__ import annotations

import pytest

from services.api.openness import by_address
from shared.settings import SettingError, Settings


@pytest.mark.parametrize(
    ("host", "asked", "access"),
    [
        ("127.0.0.1", "", "open"),
        ("localhost", "open", "open"),
        ("::1", "keys", "keys"),
        ("0.0.0.0", "", "keys"),
        ("192.168.1.5", "keys", "keys"),
    ],
)
def test_keys_are_asked_for_wherever_others_could_come_in(host: str, asked: str, access: str) -> None:
    assert by_address(Settings(api_host=host, access=asked)).access == access


def test_behind_a_proxy_keys_are_asked_for_on_loopback_too() -> None:
    assert by_address(Settings(trusted_proxies=1)).access == "keys"


@pytest.mark.parametrize("more", [{"api_host": "0.0.0.0"}, {"trusted_proxies": 1}])
def test_an_open_reelmap_that_others_can_reach_is_refused(more: dict) -> None:
    with pytest.raises(SettingError, match="REELMAP_ACCESS=keys"):
        by_address(Settings(access="open", **more))
