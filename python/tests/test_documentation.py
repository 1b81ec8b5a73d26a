"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import unittest

import echoloop


def load_tests(
    loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    for module in pkgutil.iter_modules(echoloop.__path__):
        if module.name != "libecholoop":
            name = f"echoloop.{module.name}"
            tests.addTests(doctest.DocTestSuite(importlib.import_module(name)))
    tests.addTests(doctest.DocTestSuite(echoloop))
    return tests


class TheDocumentation(unittest.TestCase):
    def test_every_public_name_has_a_docstring(self) -> None:
        for name in set(echoloop.__all__) - {"__version__"}:
            thing = getattr(echoloop, name)
            self.assertTrue(thing.__doc__, name)
            for member, value in vars(thing).items():
                if not member.startswith("_") and callable(value):
                    self.assertTrue(value.__doc__, f"{name}.{member}")
