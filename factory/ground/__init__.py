"""Values and small tools that every other room uses and that know nothing about units.

What must not live here: anything that reads or writes the store or starts a process.
"""
