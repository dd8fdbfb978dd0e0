"""factoryd: a floor of coding agents whose good work lands by itself, tested, and whose exceptions reach a person.

What must not live here: anything that runs at import time. `factory status` pays for every import.
"""

__version__ = "0.1.0"
