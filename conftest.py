"""What holds for all tests, those of the services and those of the SDK."""

import signal

from hypothesis import settings

# A shell that runs tests in the background has them ignore Ctrl-C, and so would every program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends on what else the machine does; pytest's own time limit finds what hangs.
settings.register_profile("lodestream", deadline=None)
settings.load_profile("lodestream")
