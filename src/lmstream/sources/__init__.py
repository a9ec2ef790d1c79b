"""Where records come from.

A module here is a source by its file name: it has `Settings`, a struct of what the operator may set, and `make`, the
class that is called with them. Nothing is registered anywhere.
What it may be able to do besides is in lmstream.abilities.
"""
