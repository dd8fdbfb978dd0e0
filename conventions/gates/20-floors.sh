# Imports only go down, and each outside library has one owner (pyproject.toml, tool.importlinter).
lint-imports --no-cache
