"""What tells a run to stop beside signals: the metadata server's notices."""

import http.server
import threading

import pytest

from stepjax.distributed.notices import on_google_cloud, read_notice, watch_notices


@pytest.fixture
def metadata(monkeypatch):
    """A metadata server; what it answers may be changed."""
    answers = {"maintenance-event": "NONE", "preempted": "FALSE"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rsplit("/", 1)[-1]
            flavor = self.headers.get("Metadata-Flavor") == "Google"
            self.send_response(200 if name in answers and flavor else 404)
            self.end_headers()
            self.wfile.write(answers.get(name, "").encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_address[1]}")
    yield answers
    server.shutdown()
    server.server_close()


def test_notices_of_the_metadata_server(metadata):
    assert on_google_cloud()
    assert read_notice() is None
    metadata["preempted"] = "TRUE"
    assert read_notice() == "notice of preemption (TRUE)"
    metadata["maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
    assert read_notice() == "notice of maintenance (TERMINATE_ON_HOST_MAINTENANCE)"
    metadata["maintenance-event"] = "<html>" * 50
    assert read_notice() == "notice of preemption (TRUE)", "a page is no notice"


def test_a_notice_asks_to_stop(metadata):
    heard, over = threading.Event(), threading.Event()
    watch_notices(lambda _: heard.set(), over, seconds=0.05)
    assert not heard.wait(0.3)
    metadata["maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"
    assert heard.wait(5)
    over.set()


def test_a_server_that_does_not_answer_is_no_notice(monkeypatch):
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    assert read_notice(timeout=0.5) is None
