"""The commands that a person types: parse, call, print; the only package that prints.

What must not live here: decisions, and imports at module level that would slow down `factory
status`.
"""
