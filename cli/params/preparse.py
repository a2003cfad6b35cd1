"""Looks through the words of a command line before click does: click stops at the first that is
wrong.

What is right is left to click; of what is wrong each word gets its sentence, so that all of them
are told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import click

from cli.failure import UsageProblem, nearest

ARRAY = "SERVER_ARGS"  # as a shell's array with options in it is called in the examples


@dataclass
class Sifted:
    """``words`` that click can read; the ``problems`` of the others, and the parameters they
    were ``meant`` for.
    """

    words: list[str] = field(default_factory=list)
    problems: list[UsageProblem] = field(default_factory=list)
    meant: set[str] = field(default_factory=set)


def sift(
    words: Sequence[str], parameters: Iterable[click.Parameter], *, group: bool = False
) -> Sifted:
    """Sort ``words``. A ``group`` hands on whatever comes after its first word that is no
    option.
    """
    parameters = list(parameters)
    options = [parameter for parameter in parameters if isinstance(parameter, click.Option)]
    positions = sum(isinstance(parameter, click.Argument) for parameter in parameters)
    return _Sieve(options, positions, group=group).sift(list(words))


class _Sieve:
    def __init__(self, options: Sequence[click.Option], positions: int, *, group: bool):
        self._options = {
            name: option for option in options for name in (*option.opts, *option.secondary_opts)
        }
        self._positions = positions
        self._group = group
        self._left: list[str] = []
        self._found = Sifted()
        self._extra: list[str] = []

    def sift(self, words: list[str]) -> Sifted:
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
            self._tell(_extra_words(self._extra))
        return self._found

    def _long(self, word: str) -> None:
        name, equals, _ = word.partition("=")
        option = self._options.get(name)
        if any(character.isspace() for character in name):
            self._tell(
                f"several options in one word: {_cut(word)}; {_in_bash('options in an array are one word each')}"
            )
        elif option is None:
            self._unknown(name, has_value=bool(equals))
        elif option.is_flag:
            if equals:
                self._tell(f"option {name!r} does not take a value", option)
            else:
                self._found.words.append(word)
        elif equals:
            self._found.words.append(word)
        else:
            self._value(name, option)

    def _value(self, name: str, option: click.Option) -> None:
        """The word behind an option. A known option there is one, and no value:
        ``--prompt=--seed`` would be.
        """
        if self._left and self._left[0].partition("=")[0] not in self._options:
            self._found.words += [name, self._left.pop(0)]
            return
        sentence = f"option {name!r} requires an argument"
        if self._left:
            sentence += f", but {self._left[0]} follows"
        # Where it is the first word and another option follows or nothing, an array of bash has
        # lost its rest.
        if not self._found.words and not self._found.problems:
            sentence += f"; {_in_bash(f'${ARRAY} is the first word of an array')}"
        self._tell(sentence, option)

    def _short(self, word: str) -> None:
        unknown = [letter for letter in word[1:] if f"-{letter}" not in self._options]
        if unknown:
            self._tell(f"no such option -{unknown[0]}")
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
        # The word behind it is most likely its value, and nothing to complain about.
        if (
            not has_value
            and self._left
            and not self._left[0].startswith("-")
            and not (option and option.is_flag)
        ):
            self._left.pop(0)
        self._tell(f"no such option {name}" + (f"; did you mean {near}?" if near else ""), option)

    def _tell(self, sentence: str, option: click.Option | None = None) -> None:
        self._found.problems.append(UsageProblem(sentence))
        if option is not None and option.name:
            self._found.meant.add(option.name)


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
