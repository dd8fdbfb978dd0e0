"""What all rooms stand on: values and small tools that know nothing about units.

What must not live here: anything that reads or writes the store, or that starts a process.
"""
