"""What is public is what docs/extending.md lists, has an `__all__`, and shows nothing private to who asks for help."""

import importlib
import inspect
import pydoc
import re

import pytest

import lmstream
from typing_of_the_public_face import public

MODULES = sorted(public())


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_says_what_is_public_in_it_and_has_it(name):
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__) > 0
    for each in module.__all__:
        assert hasattr(module, each), each
        assert each == "__version__" or not each.startswith("_")


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_has_no_private_argument(name):
    module = importlib.import_module(name)
    for each in module.__all__:
        found = getattr(module, each)
        if inspect.isclass(found) and not issubclass(found, BaseException):
            try:
                arguments = inspect.signature(found).parameters
            except ValueError:
                continue
            assert [one for one in arguments if one.startswith("_")] == [], each


def test_help_of_what_a_record_became_shows_what_one_can_ask():
    text = pydoc.plain(pydoc.render_doc(lmstream.FanOut))
    assert not re.search(r"\b_(lines|pieces|paths|of|why|made)\b", text)
    for member in ("ndjson", "groups", "cut", "rejected", "skipped", "why"):
        assert re.search(rf"\b{member}\b", text)
