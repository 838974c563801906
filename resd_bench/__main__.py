"""The entry points `resd-bench` and `python -m resd_bench`.

Importing the command line takes most of the time until a command begins, and Ctrl-C may come then.
"""

import os
import signal
import sys


def _not_begun(number: int, frame: object) -> None:
    """End at once, in one line: nothing is set up, and an exception may get lost in an import."""
    what = "run" if sys.argv[1:2] == ["run"] else "command"
    # Not through `print`, whose lock the interrupted code may hold.
    os.write(2, f"interrupted before the {what} began; nothing was written\n".encode())
    os._exit(128 + number)


def main() -> int:
    """Run the command line; the exit code."""
    before = signal.getsignal(signal.SIGINT)
    # A process in the background of a shell may ignore it.
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _not_begun)
    from resd_bench.cli import main as command_line
    from resd_bench.machine.cores import sleep_while_waiting

    sleep_while_waiting()
    signal.signal(signal.SIGINT, before)
    return command_line()


if __name__ == "__main__":
    sys.exit(main())
