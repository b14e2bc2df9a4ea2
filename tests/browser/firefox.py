"""Firefox as Playwright wants it: a program that starts it and stands between the two.

Playwright drives a Firefox of one's own by WebDriver BiDi, and tells every new window its colour scheme by a command
that Debian's Firefox does not know; without an answer to it no window opens. This passes all messages on and answers
that command itself. What it would have set is set by preferences when Firefox starts (``conftest.py``).

    python firefox.py /usr/bin/firefox-esr --headless --remote-debugging-port=0 ...
"""

import asyncio
import json
import re
import sys

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler, websocket_connect

ANSWERED_HERE = {"emulation.setMediaFeaturesOverride"}
LISTENS = re.compile(r"(WebDriver BiDi listening on )(ws://\S+)")
LARGEST = 1 << 30  # bytes of a message


class Between(WebSocketHandler):
    """One connection from Playwright, and the one to Firefox that it is passed on to."""

    def initialize(self, address: list[str]) -> None:
        self.address = address

    async def open(self, *path) -> None:
        self.firefox = await websocket_connect(self.address[0] + self.request.path, max_message_size=LARGEST)
        asyncio.ensure_future(self.pass_back())

    async def pass_back(self) -> None:
        while (message := await self.firefox.read_message()) is not None:
            await self.write_message(message)
        self.close()

    async def on_message(self, message: str) -> None:
        asked = json.loads(message)
        if asked.get("method") in ANSWERED_HERE:
            await self.write_message(json.dumps({"type": "success", "id": asked["id"], "result": {}}))
        else:
            await self.firefox.write_message(message)

    def on_close(self) -> None:
        self.firefox.close()


async def main(command: list[str]) -> int:
    address: list[str] = []
    sockets = bind_sockets(0, "127.0.0.1")
    application = Application([(r"/.*", Between, {"address": address})], websocket_max_message_size=LARGEST)
    HTTPServer(application).add_sockets(sockets)
    ours = f"ws://127.0.0.1:{sockets[0].getsockname()[1]}"
    firefox = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    async for line in firefox.stderr:
        text = line.decode(errors="replace")
        if found := LISTENS.search(text):
            address.append(found[2])
            text = LISTENS.sub(rf"\g<1>{ours}", text)
        print(text, end="", file=sys.stderr, flush=True)
    return await firefox.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
