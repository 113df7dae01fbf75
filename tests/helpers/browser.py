"""Headless Chromium for tests of web pages, if Chromium is installed.

All requests of the browser go through a proxy, which serves one host only and records each request.
"""

import http.server
import re
import shutil
import subprocess
import threading

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
SITE = "http://report.test"


class Proxy(http.server.BaseHTTPRequestHandler):
    """Proxy that serves the files of one host and records all requests."""

    def do_GET(self):
        self.server.requested_urls.append(self.path)
        text = self.server.files.get(self.path.removeprefix(SITE))
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write((text or "").encode())

    def do_CONNECT(self):
        self.server.requested_urls.append(self.path)
        self.send_error(403)

    def log_message(self, *_):
        pass


def browse(path: str, files: dict[str, str], *flags: str) -> tuple[list[str], list[str]]:
    """Opens a page of `SITE` in the browser.

    Returns:
        The requested addresses, and the lines of the browser's console.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.files, server.requested_urls = files, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", "--disable-default-apps", "--disable-extensions", "--mute-audio"),
        *(
            f"--proxy-server=http://127.0.0.1:{server.server_port}",
            "--proxy-bypass-list=<-loopback>",
        ),
        *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=8000", *flags),
    ]
    try:
        done = subprocess.run(
            [*command, "--dump-dom", SITE + path], capture_output=True, text=True, timeout=90
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0 and "<html" in done.stdout, done.stderr[-2000:]
    console = re.findall(r"CONSOLE[:(]\d+\)?\] (.*)", done.stderr)
    return [url for url in server.requested_urls if _is_ours(url)], console


def _is_ours(url: str) -> bool:
    """Returns whether a request comes from a page and not from the browser itself."""
    return not re.search(r"(google|gstatic|googleapis)\.com", url)
