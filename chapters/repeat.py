"""Run a stage again and again in one lean interpreter, as a program that uses the engine would.

Run it: python3 -I -S chapters/repeat.py MODULE ROOTFS COMMAND…

For each byte on standard input it runs the command once, and answers with one byte: the exit code.
The benchmarks use it: pytest itself is too big a process, whose every child costs a millisecond.
"""

import importlib
import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    module, rootfs, *command = sys.argv[1:]
    stage = importlib.import_module(module)
    while os.read(0, 1):
        os.write(1, bytes([stage.run(rootfs, command)]))
