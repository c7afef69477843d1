"""Keys and values over lines of text, kept in a folder."""

import json
import os
import socketserver
import sys
from pathlib import Path

config = json.loads(Path(sys.argv[1]).read_text())
data = Path(config["data"])


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        if config["mode"] == "deaf":
            self.rfile.read()
        known = False
        for line in self.rfile:
            verb, *rest = line.decode().split()
            if verb == "PASS":
                known = rest == [config["password"]]
                answer = "+OK" if known else "-NO"
            elif not known:
                answer = "-WHO"
            elif verb == "PING":
                answer = "+PONG"
            elif verb == "SET":
                (data / rest[0]).write_text(rest[1])
                answer = "+OK"
            elif verb == "GET":
                path = data / rest[0]
                answer = f"+{path.read_text()}" if path.exists() else "-NONE"
            elif verb == "WHO":
                answer = "+" + json.dumps([os.getpid(), os.geteuid(), sys.argv[2], os.environ["ECHO"]])
            else:
                answer = "-WHAT"
            self.wfile.write(f"{answer}\n".encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if config["mode"] == "crash":
    sys.exit("echo: as it was told, it crashes")
with Server((config["host"], config["port"]), Handler) as server:
    sys.stdout.write("echo: ready\n")
    sys.stdout.flush()
    server.serve_forever()
