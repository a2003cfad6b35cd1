"""A module whose import lasts until the file of its variable exists."""

import os
import time
from pathlib import Path

while not Path(os.environ["TEST_OF_FORKS_GO"]).exists():
    time.sleep(0.005)
