"""What `factoryd demo` runs on: a small shop, its tasks, and the scripted agent that does them.

Only content lives here. The command is cli/demo.py; no other room may import this one.
"""
