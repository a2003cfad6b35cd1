"""What the tests of forks run: the first word says what, and the last argument is the parent."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

if __name__ == "__main__":
    *_, what, parent = sys.argv
    if what == "report":
        seen = {
            "parent": int(parent) == os.getppid(),
            "shared": "colorsys" in sys.modules,
            "variable": os.environ.get("TEST_OF_FORKS"),
            "input": sys.stdin.read(),
        }
        print(json.dumps(seen))  # noqa: T201 - what the leader reads
    elif what == "descriptor":
        os.write(int(sys.argv[1]), b"here")
    elif what == "sleep":
        time.sleep(600)
    elif what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif what == "fail":
        raise ValueError("no")
    elif what == "exit":
        sys.exit("ended")
