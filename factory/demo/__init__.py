"""The contents of `factoryd demo`: a small shop, its tasks, and the scripted agent that does them.

This package has only content. The command is in cli/demo.py; no other package may import this one.
"""
