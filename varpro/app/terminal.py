"""What is shown to people at a terminal, without what would steer it.

Names, titles, headers and messages come from files. An escape sequence in them could clear the screen,
change the title of the window or paste, and a direction mark could show a name as another one. So every
text goes through `printable` before it is shown: `echo` here, and the cells of tables.
"""

import json
import unicodedata

import typer

# Joiners stand inside words of some scripts, and change nothing around them.
_HARMLESS = "\n\t\u200c\u200d"
# Control characters, formats such as direction marks, halves of letters, line and page separators.
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str) -> str:
    """The text with every character that steers a terminal as its escape, `\\u001b`, which JSON reads
    back as what it was."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        json.dumps(letter)[1:-1]
        if unicodedata.category(letter) in _STEERING and letter not in _HARMLESS
        else letter
        for letter in text
    )


def echo(text: str = "", err: bool = False) -> None:
    """A text and a line end on stdout, or on stderr."""
    typer.echo(printable(text), err=err)
