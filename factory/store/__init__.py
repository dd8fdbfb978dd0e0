"""What the store says about itself: whose it is, and what it must never forget.

What must not live here: anything that decides about units, or that starts a process.
"""
