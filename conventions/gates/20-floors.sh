# The floors: imports go down only, one owner for each outside thing (pyproject.toml, tool.importlinter).
lint-imports --no-cache
