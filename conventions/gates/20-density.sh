# Room to breathe: tokens a line, comprehensions, and the size of modules, classes and functions.
python -m tests.density factory
