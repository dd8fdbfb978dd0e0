# The tests. Those marked agents are skipped where no agent CLI is found.
python -m pytest -q -n auto
