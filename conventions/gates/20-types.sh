# Types, in the package and in the tests.
mypy
