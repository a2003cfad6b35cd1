"""Checks the words of a command line before click parses them: click stops at the first error.

Valid words are left to click. Every other word gets an error message, so that all of them are
reported together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from cli.app import Prevalidated
from cli.failure import UsageProblem, nearest

ARRAY = "SERVER_ARGS"  # the name of the shell array with options in the examples


def prevalidate(
    words: Sequence[str], parameters: Iterable[click.Parameter], *, group: bool = False
) -> Prevalidated:
    """Check ``words`` against ``parameters``.

    A ``group`` leaves everything after its first word that is not an option to its commands.
    """
    parameters = list(parameters)
    options = [parameter for parameter in parameters if isinstance(parameter, click.Option)]
    positions = sum(isinstance(parameter, click.Argument) for parameter in parameters)
    return _Prevalidator(options, positions, group=group).run(list(words))


class _Prevalidator:
    def __init__(self, options: Sequence[click.Option], positions: int, *, group: bool):
        self._options = {
            name: option for option in options for name in (*option.opts, *option.secondary_opts)
        }
        self._positions = positions
        self._group = group
        self._left: list[str] = []
        self._found = Prevalidated()
        self._extra: list[str] = []

    def run(self, words: list[str]) -> Prevalidated:
        self._left = words
        while self._left:
            word = self._left.pop(0)
            if word.startswith("--") and len(word) > 2:
                self._long(word)
            elif word.startswith("-") and len(word) > 1 and word != "--":
                self._short(word)
            elif self._group:
                self._found.words += [word, *self._left]
                break
            else:
                self._position(word)
        if self._extra:
            self._report(_extra_words(self._extra))
        return self._found

    def _long(self, word: str) -> None:
        name, equals, _ = word.partition("=")
        option = self._options.get(name)
        if any(character.isspace() for character in name):
            self._report(
                f"several options in one word: {_cut(word)}; "
                + _in_bash("options in an array are one word each")
            )
        elif option is None:
            self._unknown(name, has_value=bool(equals))
        elif option.is_flag:
            if equals:
                self._report(f"option {name!r} does not take a value", option)
            else:
                self._found.words.append(word)
        elif equals:
            self._found.words.append(word)
        else:
            self._value(name, option)

    def _value(self, name: str, option: click.Option) -> None:
        """Take the word behind an option as its value, unless it is a known option.

        A value that looks like an option is written ``--prompt=--seed``.
        """
        if self._left and self._left[0].partition("=")[0] not in self._options:
            self._found.words += [name, self._left.pop(0)]
            return
        sentence = f"option {name!r} requires an argument"
        if self._left:
            sentence += f", but {self._left[0]} follows"
        # As the first word, followed by another option or nothing, it is probably the first word of
        # a bash array that was written without [@].
        if not self._found.words and not self._found.problems:
            sentence += f"; {_in_bash(f'${ARRAY} is the first word of an array')}"
        self._report(sentence, option)

    def _short(self, word: str) -> None:
        unknown = [letter for letter in word[1:] if f"-{letter}" not in self._options]
        if unknown:
            self._report(f"no such option -{unknown[0]}")
        else:
            self._found.words.append(word)

    def _position(self, word: str) -> None:
        if word == "--":
            self._extra += self._left[self._positions :]
            self._found.words += ["--", *self._left[: self._positions]]
            self._left = []
        elif self._positions:
            self._positions -= 1
            self._found.words.append(word)
        else:
            self._extra.append(word)

    def _unknown(self, name: str, *, has_value: bool) -> None:
        near = nearest(name.replace("_", "-"), self._options)
        option = self._options[near] if near else None
        # The word behind it is most likely its value, not another error.
        if (
            not has_value
            and self._left
            and not self._left[0].startswith("-")
            and not (option and option.is_flag)
        ):
            self._left.pop(0)
        self._report(f"no such option {name}" + (f"; did you mean {near}?" if near else ""), option)

    def _report(self, sentence: str, option: click.Option | None = None) -> None:
        self._found.problems.append(UsageProblem(sentence))
        if option is not None and option.name:
            self._found.excused.add(option.name)


def _extra_words(words: Sequence[str]) -> str:
    plural = "s" if len(words) > 1 else ""
    return (
        f"got unexpected extra argument{plural} ({_cut(' '.join(words))}); "
        "put quotes around a value that holds spaces"
    )


def _in_bash(reason: str) -> str:
    return f'in bash write "${{{ARRAY}[@]}}", since {reason}'


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
