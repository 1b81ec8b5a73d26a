"""What ``_ffi.py`` says is what the header says: names, numbers, layouts, prototypes."""

from __future__ import annotations

import ctypes
import enum
import re
import unittest
from pathlib import Path
from typing import Any, cast

from echoloop import _ffi

HEADER = Path(__file__).resolve().parents[2] / "include" / "echoloop.h"

SIZES = {"I": "uint32_t", "i": "int32_t", "Q": "64 bits"}


def code_of(text: str) -> str:
    """The header without comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)


@unittest.skipUnless(HEADER.exists(), "the header is not here, only the package")
class TheHeader(unittest.TestCase):
    code: str
    prototypes: dict[str, list[Any]]
    numbers: dict[str, int]

    @classmethod
    def setUpClass(cls) -> None:
        cls.code = code_of(HEADER.read_text())
        plain = re.sub(r"^\s*#.*?(?<!\\)$", "", cls.code, flags=re.MULTILINE)
        cls.prototypes = {name: rest for name, *rest in _ffi.declarations(plain)}
        pairs = re.findall(r"#define\s+(ECHOLOOP_\w+)\s+\(?(-?\d+)\)?\s*$", cls.code, re.MULTILINE)
        cls.numbers = {name: int(number) for name, number in pairs}

    def fields(self, name: str) -> list[tuple[str, str]]:
        """Type and name of each field of a struct."""
        found = re.search(rf"struct {name} {{(.*?)^}}", self.code, re.DOTALL | re.MULTILINE)
        self.assertIsNotNone(found, name)
        assert found is not None
        pairs = re.findall(r"^\s*(.+?[ *])(\w+(?:\[\d+\])?);", found[1], re.MULTILINE)
        return [(re.sub(r"\bstruct ", "", kind.strip()), field) for kind, field in pairs]

    def test_every_prototype_is_that_of_the_header(self) -> None:
        ours = {name: rest for name, *rest in _ffi.declarations(_ffi.PROTOTYPES)}
        self.assertGreater(len(ours), 25)
        self.assertEqual(ours, {name: self.prototypes.get(name) for name in ours})

    def test_every_number_is_that_of_the_header(self) -> None:
        def check(prefix: str, numbers: type[enum.IntEnum]) -> None:
            for member in numbers:
                self.assertEqual(self.numbers.get(prefix + member.name), member, member)

        check("ECHOLOOP_", _ffi.Status)
        check("ECHOLOOP_EVENT_", _ffi.Event)
        check("ECHOLOOP_CLOSE_", _ffi.Close)
        self.assertEqual(self.numbers["ECHOLOOP_ADDR_MAX"], _ffi.ADDR_MAX)

    def test_no_status_event_or_reason_of_the_header_is_unknown_here(self) -> None:
        theirs = {
            "ECHOLOOP_EVENT_": set(_ffi.Event.__members__),
            "ECHOLOOP_CLOSE_": set(_ffi.Close.__members__),
            "ECHOLOOP_E": {name[1:] for name in _ffi.Status.__members__},
        }
        for prefix, known in theirs.items():
            for name in self.numbers:
                if name.startswith(prefix) and not name.startswith(
                    "ECHOLOOP_EVENT_" * (prefix[-1] == "E")
                ):
                    self.assertIn(name[len(prefix) :], known)

    def test_every_option_struct_has_the_layout_of_the_header(self) -> None:
        for name, layout in _ffi.STRUCTS.items():
            ours = []
            for field, kind in cast("list[tuple[str, Any]]", layout._fields_):
                if issubclass(kind, ctypes.Array):
                    ours.append((kind._type_, f"{field}[{kind._length_}]"))
                else:
                    ours.append((kind, field))
            theirs = []
            for c_type, field in self.fields(name):
                theirs.append((_ffi.ctypes_of(_ffi.spelled(c_type)), field))
            self.assertEqual(ours, theirs, name)

    def test_an_event_has_the_layout_of_the_header(self) -> None:
        theirs = [(field, _ffi.spelled(c_type)) for c_type, field in self.fields("echoloop_event")]
        ours = [(name, c_type) for name, c_type, _ in _ffi.EVENT_FIELDS]
        self.assertEqual(ours, theirs)
        self.assertEqual(_ffi.EVENT.size, 48)
        for _, c_type, code in _ffi.EVENT_FIELDS:
            if code != "Q":
                self.assertEqual(SIZES[code], c_type)

    def test_the_library_is_of_the_version_of_the_header_and_the_package(self) -> None:
        import echoloop

        self.assertIn(f'ECHOLOOP_VERSION "{echoloop.__version__}"', self.code)
        project = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text()
        self.assertIn(f'version = "{echoloop.__version__}"', project)


class TheWindowOnMemory(unittest.TestCase):
    def test_a_slice_copies_exactly_these_bytes(self) -> None:
        buffer = ctypes.create_string_buffer(b"one message and another")
        start = ctypes.addressof(buffer)
        message = _ffi.MEMORY[start + 4 : start + 11]
        ctypes.memset(start, 0, len(buffer))
        self.assertEqual(message, b"message")
        self.assertIs(type(message), bytes)
