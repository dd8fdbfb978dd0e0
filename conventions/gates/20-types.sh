# Types, of the tests too.
mypy
