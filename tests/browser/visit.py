"""Opens pages in a real Chromium and says what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from playwright.sync_api import BrowserContext, ConsoleMessage, Page

#: By colour scheme, the width and height of what it is looked at on: a small phone, a desktop.
LOOKS: dict[Literal["light", "dark"], tuple[int, int]] = {"light": (360, 740), "dark": (1440, 900)}
GRAVE = ("serious", "critical")

#: Of Swagger UI only what is around it is ours.
_NOT_OURS = "#swagger-ui"

_AXE = """async (excluded) => {
    const found = await axe.run({ exclude: excluded }, { resultTypes: ["violations"], preload: false });
    return found.violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, nodes: nodes.map(
        ({ html, any }) => `${html.slice(0, 200)} ${any.map((check) => check.message)}`) }));
}"""
_WIDER = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
    [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.outerHTML.slice(0, 120))"""
_UNFOLD = """() => {
    document.querySelectorAll("details").forEach((fold) => { fold.open = true });
    document.querySelectorAll("img").forEach((picture) => { picture.loading = "eager" });
}"""
_BROKEN = "() => [...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src)"
_VIOLATIONS = """addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.violatedDirective} refused ${event.blockedURI}`));"""


@dataclass
class Visit:
    """One page that is open. complaints: what the browser has written as errors so far."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        # Chromium also writes of a page's own status, which is what a page of an error has.
        is_own_status = message.text.startswith("Failed to load resource") and message.location["url"] == self.page.url
        if message.type in ("error", "warning") and not is_own_status:
            self.complaints.append(f"{message.type}: {message.text} ({message.location['url']})")


@contextmanager
def visiting(context: BrowserContext, address: str) -> Iterator[Visit]:
    """Open that address, and close it at the end."""
    page = context.new_page()
    visit = Visit(page)
    page.on("console", visit.note)
    page.on("pageerror", lambda error: visit.complaints.append(f"exception: {error}"))
    page.add_init_script(_VIOLATIONS)
    try:
        page.goto(address)
        yield visit
    finally:
        page.close()


def faults(visit: Visit, axe: str) -> list[str]:
    """What is wrong with the page, everything on it unfolded: on a phone by day and on a desktop by night."""
    page = visit.page
    # Through the debugger, which no content security policy stops, so that the page's own stays as it is.
    page.evaluate(axe)
    page.evaluate(_UNFOLD)
    page.wait_for_function("() => [...document.images].every((picture) => picture.complete)")
    found = []
    for scheme, (width_px, height_px) in LOOKS.items():
        page.set_viewport_size({"width": width_px, "height": height_px})
        page.emulate_media(color_scheme=scheme)
        where = f"{width_px} px, {scheme}"
        found += [f"{where}: too wide: {element}" for element in page.evaluate(_WIDER)]
        found += [f"{where}: {line}" for line in _grave(page.evaluate(_AXE, _NOT_OURS))]
    found += [f"a picture that does not load: {source}" for source in page.evaluate(_BROKEN)]
    return found + visit.complaints


def _grave(violations: list[dict[str, Any]]) -> list[str]:
    return [
        f"{each['impact']}: {each['id']}: {each['help']}: {each['nodes'][:3]}"
        for each in violations
        if each["impact"] in GRAVE
    ]
