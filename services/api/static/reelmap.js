// Keeps a page fresh while something on it is still going on.
//
// <main data-poll="/api/v1/jobs/… /api/v1/clusterings/…" data-refresh="/jobs/…">: when one of the polled answers
// changes, the page is fetched again and its parts marked data-live are exchanged. The server thus stays the only
// one that writes HTML, and the page is whole without this script. No data-poll left: everything is final, stop.

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 10_000;
const LONGER = 1.4;

const seen = new Map(); // URL -> {etag, body} of its last answer
const main = document.querySelector("main[data-poll]");

/** Whether the resource is another one than when it was last looked at. */
async function hasChanged(url) {
  const last = seen.get(url);
  const headers = last?.etag ? { "If-None-Match": last.etag } : {};
  const response = await fetch(url, { headers, cache: "no-store" });
  if (response.status === 304) return false;
  if (response.status >= 500 || response.status === 429) throw new Error(`${url}: ${response.status}`);
  const body = await response.text();
  seen.set(url, { etag: response.headers.get("ETag"), body });
  return last === undefined || last.body !== body;
}

async function refresh() {
  const response = await fetch(main.dataset.refresh, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (!response.ok || response.redirected) return location.reload(); // deleted, or signed out: show what the server says
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  const focused = document.activeElement?.id;
  for (const part of document.querySelectorAll("[data-live]")) {
    const newer = fresh.getElementById(part.id);
    for (const fold of part.querySelectorAll("details[id][open]")) newer?.querySelector(`#${fold.id}`)?.setAttribute("open", "");
    if (newer && newer.outerHTML !== part.outerHTML) part.replaceWith(document.adoptNode(newer));
  }
  if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus();
  document.title = fresh.title;
  main.dataset.poll = fresh.querySelector("main")?.dataset.poll ?? "";
}

async function watch() {
  let wait_ms = FIRST_WAIT_MS;
  while (main.dataset.poll) {
    await new Promise((resolve) => setTimeout(resolve, wait_ms));
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    try {
      const changes = await Promise.all(main.dataset.poll.split(" ").map(hasChanged));
      if (changes.some(Boolean)) {
        await refresh();
        wait_ms = FIRST_WAIT_MS;
        continue;
      }
    } catch (error) {
      console.info("will ask again:", error.message);
    }
    wait_ms = Math.min(wait_ms * LONGER, LONGEST_WAIT_MS);
  }
}

if (main) watch();
