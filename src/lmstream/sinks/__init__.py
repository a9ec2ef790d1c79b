"""Where packs and dead letters go.

A module here is a sink by its file name: it has `Settings`, a struct of what the operator may set, and `make`, the
class that is called with them. Nothing is registered anywhere.
What it may be able to do besides is in lmstream.abilities.
"""
