"""Random dogs: a small web service to put into a container. Nothing but Python's own library.

GET / is a page with a dog, GET /health says that the service is well; port 5000.
"""

import html
import os
import random
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 5000

DOGS = {
    "Waffle": r"""
    .----------.
  .'|  o    o  |'.
  | |    __    | |
  '-'\   \/   /'-'
      '--.U.-'
""",
    "Noodle": r"""
      __
  .--'o \____________________,/
  @___   |                   |
      '--|                   |
         |_|~|_|~~~~~~~~|_|~|_|
""",
    "Crumb": r"""
            z Z
      ___  z
    _/   \________
   (  -.-         \
    '-@___         )~
  [__________________]
""",
    "Comet": r"""
     __/|
  @-'  o \
   '--.   |
      |    \
      | |   \
      |_|____)~
""",
}

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Random dogs</title>
<style>body {{ font: 1.5rem monospace; margin: 3rem }}</style>
<pre>{}</pre>
<p><a href="/">Another dog</a></p>
"""


def text() -> str:
    """A dog, and who shows it."""
    name, picture = random.choice(list(DOGS.items()))
    return f"{picture}\n{name}, from container {socket.gethostname()}, process {os.getpid()}\n"


class Handler(BaseHTTPRequestHandler):
    """One request; the base class writes a line about each to standard error, the log."""

    def do_GET(self) -> None:
        """Answer with HTML for a browser, and with plain text for curl."""
        if self.path == "/health":
            self.answer("ok\n")
        elif self.path != "/":
            self.answer("no such page\n", status=404)
        elif "text/html" in self.headers.get("Accept", ""):
            self.answer(PAGE.format(html.escape(text())), kind="text/html")
        else:
            self.answer(text())

    def answer(self, words: str, kind: str = "text/plain", status: int = 200) -> None:
        """Send a whole answer."""
        body = words.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until somebody asks us to stop.

    In a container this is process 1, for which the kernel ignores every signal that has no
    handler: without these two, `stop` would wait ten seconds and then kill it.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with ThreadingHTTPServer(("", PORT), Handler) as server:
        print(f"listening on port {PORT}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
