"""Names that mean something to the factory, so that nothing else may have them."""

NO_AGENT = "run"  # the agent of a `run` unit: a shell command, which no runtime's pause stops
