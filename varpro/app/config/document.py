"""A safe YAML reader that remembers on which line everything stands.

It builds plain dicts and lists from parser events, so nothing in a file can call code. Scalars stay
text: the field that takes a value decides whether `no` or `1e-3` is a word or a number.
"""

import copy
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from varpro import InputError

from ..regular_files import disguised, read_whole

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 50_000

# Blanks that programs for texts write, and that YAML takes for letters.
_ODD_BLANKS = frozenset("\u00a0\u2007\u202f\u3000\ufeff")
_ODD_BLANK = re.compile(rf"^[ ]*[{''.join(sorted(_ODD_BLANKS))}]", re.MULTILINE)
_ODD_BLANK_MESSAGE = (
    "a blank of another kind than that of the space bar stands here (a no-break space), as copies of "
    "pages have. Type it anew."
)

Key = tuple[str | int, ...]


class Plain(str):
    """A scalar without quotes, which may also be meant as a number or a truth value."""


@dataclasses.dataclass(frozen=True)
class Document:
    """A parsed file: its name as the user wrote it, its content, and the line of every key."""

    file: str
    tree: dict[str, Any]
    lines: dict[Key, int]
    given: frozenset[Key] = frozenset()

    def where(self, key: Key) -> str:
        """`decay.yaml:9 model.fast.tau`, with the line of the nearest key that is in the file; for
        what came from the command line, `--set model.fast.tau`."""
        if any(key[:i] in self.given for i in range(1, len(key) + 1)):
            return f"{self.file}: --set {'.'.join(map(str, key))}"
        known = next((key[:i] for i in range(len(key), 0, -1) if key[:i] in self.lines), None)
        line = "" if known is None else f":{self.lines[known]}"
        dotted = ".".join(str(part) for part in key)
        return f"{self.file}{line} {dotted}".rstrip()


def read_text(path: str | Path, what: str, max_bytes: int | None = None) -> str:
    """The UTF-8 text of a file; a byte order mark is dropped and line ends become `\\n`.

    `max_bytes`: how large the file may be; by default what a table may have."""
    raw = read_whole(path, what, max_bytes)
    if (other := disguised(raw)) is not None:
        raise InputError(f"{path}: {what}: is {other}.")
    if (encoding := _wide(raw)) is not None:
        raise InputError(f"{path}: {what}: the text is {encoding}. Save it as UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        byte = raw[error.start]
        raise InputError(
            f"{path}:{line}:{column} {what}: byte 0x{byte:02x} is not UTF-8. "
            "Save the file as UTF-8."
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}:{line} {what}: a zero byte; this is not a text file.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _wide(raw: bytes) -> str | None:
    """The encoding of a text that is none of bytes: by its mark, or by zeros in every other byte."""
    if raw[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return "UTF-32"
    head = raw[: min(len(raw), 200) // 2 * 2]
    halves = [set(head[::2]), set(head[1::2])]
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(head) > 3 and halves.count({0}) == 1):
        return "UTF-16"
    return None


def load(path: str | Path) -> Document:
    """Read a configuration file."""
    text = read_text(path, "configuration", MAX_BYTES)
    if (found := _ODD_BLANK.search(text)) is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise InputError(f"{path}:{line} {_ODD_BLANK_MESSAGE}")
    builder = _Builder(str(path))
    try:
        tree = builder.parsed(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        reason = f"{error.problem or error.context}."
        if "'\\t'" in reason:
            reason = "a tab; YAML indents with blanks."
        raise InputError(f"{path}{at} not valid YAML: {reason}") from None
    except YAMLError as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: not valid YAML: {first}.") from None
    return Document(str(path), tree, builder.lines)


def in_one_line(text: str, most: int = 60) -> str:
    """What a user wrote, as a message may quote it."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}..."


def changed(document: Document, changes: Sequence[str]) -> Document:
    """The document with values put in, each "section.key=value" with a value in YAML.

    **Raises:** `InputError` for what is no such change, or meets a value on its way.
    """
    tree, given = copy.deepcopy(document.tree), set(document.given)
    for change in changes:
        path, equals, text = change.partition("=")
        change = in_one_line(change)
        key = tuple(part for part in path.strip().split("."))
        if not equals or not all(key):
            raise InputError(
                f"--set {change}: expected KEY=VALUE, such as fit.solver.max_steps=50."
            )
        builder = _Builder(f"--set {in_one_line(path)}")
        try:
            value = builder.parsed(f"value: {text}")
        except YAMLError as error:
            raise InputError(f"--set {change}: not valid YAML.") from error
        if set(value) != {"value"}:
            raise InputError(f"--set {change}: holds another key. Give each a --set of its own.")
        node: Any = tree
        for part in key[:-1]:
            if isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, dict):
                if node.get(part) is None:
                    node[part] = {}
                elif not isinstance(node[part], dict | list) and key[0] in ("model", "responses"):
                    # A number that was a start becomes the init of keys.
                    node[part] = {"init": node[part]}
                node = node[part]
            else:
                raise InputError(f"--set {change}: there is no '{part}' in the configuration.")
        last = key[-1]
        if isinstance(node, list) and last.isdigit() and int(last) < len(node):
            node[int(last)] = value["value"]
        elif isinstance(node, dict):
            node[last] = value["value"]
        else:
            raise InputError(f"--set {change}: there is no '{last}' in the configuration.")
        given.add(key)
    return Document(document.file, tree, document.lines, frozenset(given))


class _Builder:
    """Turns parser events into plain data; refuses what a configuration never needs."""

    def __init__(self, file: str):
        self.file = file
        self.lines: dict[Key, int] = {}
        self.nodes = 0

    def fail(self, event: events.Event, message: str):
        raise InputError(" ".join(f"{self.file}:{event.start_mark.line + 1} {message}".split()))

    def parsed(self, text: str) -> dict[str, Any]:
        """The content of a text.

        **Raises:** `YAMLError` where it is no YAML; `InputError` for what no configuration has, and
        wherever the parser stumbles over itself.
        """
        try:
            return self.document(iter(YAML(typ="safe", pure=True).parse(text)))
        except (YAMLError, InputError, MemoryError):
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise InputError(f"{self.file}: not valid YAML: {reason}.") from error

    def document(self, stream: Iterator[events.Event]) -> dict[str, Any]:
        tree = None
        for event in stream:
            if isinstance(event, events.DocumentStartEvent):
                if tree is not None:
                    self.fail(event, "a second document starts here; only one is read.")
                tree = self.node(next(stream), stream, ())
                if not isinstance(tree, dict):
                    self.fail(event, "expected keys such as 'data:' and 'model:' at the top.")
        if tree is None:
            raise InputError(f"{self.file}: the configuration is empty.")
        return tree

    def node(self, event: events.Event, stream: Iterator[events.Event], key: Key) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.fail(event, f"more than {MAX_NODES} values in one file.")
        if len(key) > MAX_DEPTH:
            self.fail(event, f"nested deeper than {MAX_DEPTH} levels.")
        if isinstance(event, events.AliasEvent) or getattr(event, "anchor", None):
            self.fail(event, "anchors (&) and aliases (*) are not allowed; write the value out.")
        tag = getattr(event, "tag", None)
        if tag:
            short = tag.replace("tag:yaml.org,2002:", "!!")
            self.fail(event, f"the tag '{short}' is not allowed; write a plain value.")
        if isinstance(event, events.ScalarEvent):
            # Neither can be part of the name of a file, and half of a letter cannot be written.
            if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in event.value):
                self.fail(event, "a text holds a zero byte or half of a letter (a lone surrogate).")
            if event.style is not None:
                return str(event.value)
            return None if event.value in ("", "~", "null") else Plain(event.value)
        if isinstance(event, events.SequenceStartEvent):
            return self.sequence(stream, key)
        return self.mapping(stream, key)

    def sequence(self, stream: Iterator[events.Event], key: Key) -> list[Any]:
        items: list[Any] = []
        for event in stream:
            if isinstance(event, events.SequenceEndEvent):
                break
            here = (*key, len(items))
            self.lines[here] = event.start_mark.line + 1
            items.append(self.node(event, stream, here))
        return items

    def mapping(self, stream: Iterator[events.Event], key: Key) -> dict[str, Any]:
        items: dict[str, Any] = {}
        for event in stream:
            if isinstance(event, events.MappingEndEvent):
                break
            name = self.node(event, stream, (*key, "?"))
            if not isinstance(name, str):
                self.fail(event, "a key must be a word.")
            if _ODD_BLANKS.intersection(name):
                self.fail(event, _ODD_BLANK_MESSAGE)
            name, here = str(name), (*key, str(name))
            line = event.start_mark.line + 1
            if name in items:
                dotted = ".".join(map(str, here))
                self.fail(event, f"{dotted}: this key is already on line {self.lines[here]}.")
            self.lines[here] = line
            items[name] = self.node(next(stream), stream, here)
        return items


def dump(tree: dict[str, Any]) -> str:
    """A tree of plain values as the text of a YAML file."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    yaml.allow_unicode = True
    yaml.width = 100
    buffer = io.StringIO()
    yaml.dump(tree, buffer)
    return buffer.getvalue()
