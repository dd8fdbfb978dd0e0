# The tests. pytest skips those marked agents if it finds no agent CLI.
python -m pytest -q -n auto
