"""The loop of a host that pulls: poll, submit, commit what is settled, drain, stop."""
