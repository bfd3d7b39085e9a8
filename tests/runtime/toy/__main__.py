"""Run one worker of the toy."""

import sys

from services.runtime.app import run
from tests.runtime.toy.service import toy

if __name__ == "__main__":
    sys.exit(run(toy))
