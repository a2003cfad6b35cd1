"""Stands in for docker's client: containers are files of a folder, and what runs in one is a line
of JSON.

The image's name is a JSON list of the lines that its container prints; the line "listen" opens the
sockets of the mounted folder. It then stays until its standard input ends, or ends with the code
that a last item, a number, says.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

from cli.runtime.endpoints import Sockets

FOLDER = Path(os.environ["DOCKER_FAKE"])


def run(words: list[str]) -> int:
    name = words[words.index("--name") + 1]
    lines = json.loads(next(word for word in words if word.startswith("[")))
    code = lines.pop() if lines and isinstance(lines[-1], int) else None
    (FOLDER / name).write_text(json.dumps(words))
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()
    opened = listen(words) if "listen" in lines else []
    if code is None:
        sys.stdin.read()
        time.sleep(60)  # a client that is killed does not remove its container
    for server in opened:
        server.close()
    (FOLDER / name).unlink()
    return int(code or 0)


def listen(words: list[str]) -> list[socket.socket]:
    mount = next(word for word in words if word.endswith("target=/sockets"))
    sockets = Sockets(Path(mount.split(",")[1].removeprefix("source=")))
    opened = []
    for path in (sockets.grpc_url.removeprefix("unix:"), str(sockets.metrics)):
        opened.append(socket.socket(socket.AF_UNIX))
        opened[-1].bind(path)
        opened[-1].listen()
    return opened


def main(words: list[str]) -> int:
    with (FOLDER / "calls").open("a") as file:
        file.write(json.dumps(words) + "\n")
    match words:
        case ["run", *_]:
            return run(words)
        case ["container", "rm", "--force", name]:
            (FOLDER / name).unlink(missing_ok=True)
            return 0
        case ["container", "inspect", *_, name]:
            return 0 if (FOLDER / name).exists() else 1
    return 1


sys.exit(main(sys.argv[1:]))
