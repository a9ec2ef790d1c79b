"""Rules of a configuration that decide which rows land and what is in them: their form, and what is wrong with them.

What they do to rows is in lmstream.shaping. Rules are data and part of the Settings, so that a lake's claim names them.
"""

from lmstream.rules.form import Conditions, Maps, Mask, Names, Regex, Rule, Scale, Texts

__all__ = ["Conditions", "Maps", "Mask", "Names", "Regex", "Rule", "Scale", "Texts"]
