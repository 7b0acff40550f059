"""Requests to stop: the notices of Google Cloud's metadata server."""

import os
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

QUIET = {"", "NONE", "FALSE"}
"""The metadata server's answer when no event is near."""

Ask = Callable[[str], None]


def on_google_cloud() -> bool:
    """Whether this machine has Google Cloud's metadata server (or GCE_METADATA_HOST names one)."""
    if os.environ.get("GCE_METADATA_HOST"):
        return True
    try:
        return "Google" in Path("/sys/class/dmi/id/product_name").read_text()
    except OSError:
        return False


def read_notice(timeout: float = 2.0) -> str | None:
    """A notice of maintenance or preemption, None where there is none or the server does not answer."""
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    for name, words in (("maintenance-event", "maintenance"), ("preempted", "preemption")):
        request = urllib.request.Request(
            f"http://{host}/computeMetadata/v1/instance/{name}", headers={"Metadata-Flavor": "Google"}
        )
        try:
            # No proxy: the server runs on the machine.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=timeout) as answer:
                text = answer.read(200).decode(errors="replace").strip()
        except (OSError, ValueError):
            continue
        if text.upper() not in QUIET and len(text) < 100 and text.isprintable():
            return f"notice of {words} ({text})"
    return None


def watch_notices(ask: Ask, over: threading.Event, seconds: float = 5.0) -> None:
    """Asks the metadata server every few seconds, in a thread, until `over` is set; nothing off Google Cloud."""
    if not on_google_cloud():
        return

    def watch() -> None:
        while not over.is_set():
            if notice := read_notice():
                ask(notice)
                return
            over.wait(seconds)

    threading.Thread(target=watch, name="notices", daemon=True).start()
