"""factoryd runs coding agents on task files, tests each result and lands it.

This file must not do work at import time, because `factory status` pays for every import.
"""

__version__ = "0.1.0"
