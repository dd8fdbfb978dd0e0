"""Names that have a meaning to factoryd, so that nothing else may use them."""

NO_AGENT = "run"  # the agent of a `run` unit is a shell command, so no pause of a runtime stops it
PERSON = "person"  # the agent of work that somebody submitted with `factory submit`
TAKEN = (NO_AGENT, PERSON)  # no runtime may have one of these names
