# Lint and format.
set -e
ruff check .
ruff format --check .
