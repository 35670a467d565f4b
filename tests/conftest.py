"""What all tests have in common."""

import gc
import math
import os
import signal
import sys

from proofs.cli import progress

# A shell starts what it runs in the background with SIGINT ignored, and programs under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Where Python is told to keep no bytecode, as in many containers, every program that tests start would compile all of
# ours, which takes as long as loading it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Terms, systems and states live as long as the process: to look through them for garbage so often takes a tenth of it.
gc.set_threshold(50_000, 20, 20)

# No line on standard error because a test took its time.
progress.EVERY = math.inf
