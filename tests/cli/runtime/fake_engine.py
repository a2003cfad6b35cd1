"""Stands in for docker's client: containers are files of a folder, and what runs in one is a line of JSON.

The image's name is a JSON list of the lines that its container prints; it then stays until its standard input ends, or
ends with the code that a last item, a number, says.
"""

import json
import os
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["DOCKER_FAKE"])


def run(words: list[str]) -> int:
    name = words[words.index("--name") + 1]
    lines = json.loads(next(word for word in words if word.startswith("[")))
    code = lines.pop() if lines and isinstance(lines[-1], int) else None
    (FOLDER / name).write_text(json.dumps(words))
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()
    if code is None:
        sys.stdin.read()
        time.sleep(60)  # a client that is killed does not remove its container
    (FOLDER / name).unlink()
    return int(code or 0)


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
