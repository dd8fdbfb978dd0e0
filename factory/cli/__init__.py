"""The commands that a person types: parse, call, print; the only package that prints.

What must not live here: decisions, and module-level imports that slow down `factory status`.
"""
