"""The one place where an error becomes what the user sees: a sentence on standard error, and
JSON where asked for.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from cli.redaction import without_credentials
from pipeline.errors import InputError, TritonVideoError

PROGRAM = "triton-video"
LONGEST = 4000  # characters of an error: a value that it repeats may be of megabytes


class UsageProblem(TritonVideoError):  # noqa: N818 - click has a UsageError
    """A word of the command line that no parameter can take."""

    exit_code = 2


class InputErrors(InputError):  # noqa: N818 - the plural of its parent
    """Several parameters are wrong; ``errors`` holds one error for each, and this is told like
    the first.
    """

    def __init__(self, errors: Sequence[TritonVideoError]):
        first = errors[0]
        field = first.field if isinstance(first, InputError) else "command line"
        super().__init__(field, str(first).removeprefix(f"{field}: "))
        self.errors = tuple(errors)


def all_of(*steps: Callable[[], Any]) -> list[Any]:
    """What each step returns. Raises ``InputErrors`` with what is wrong in any of them, not only
    in the first.
    """
    results: list[Any] = []
    errors: list[TritonVideoError] = []
    for step in steps:
        try:
            results.append(step())
        except InputErrors as several:
            errors += several.errors
        except InputError as error:
            errors.append(error)
    if errors:
        raise InputErrors(errors)
    return results


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was probably meant to be."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), None)


@dataclass
class Style:
    """How a failure is reported. Guessed from the raw arguments first: reading them properly may
    be what fails.
    """

    verbose: bool = False
    as_json: bool = False

    @classmethod
    def guess(cls, arguments: Sequence[str]) -> Style:
        short = (argument for argument in arguments if re.fullmatch(r"-[qv]+", argument))
        verbose = "--verbose" in arguments or any("v" in argument for argument in short)
        return cls(verbose=verbose, as_json="--json" in arguments)


def report(error: BaseException, style: Style) -> int:
    """Tell the user and return the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if isinstance(error, click.ClickException):
        _tell(usage(error), "UsageError", style)
        return error.exit_code
    if isinstance(error, TritonVideoError):
        problems = error.errors if isinstance(error, InputErrors) else (error,)
        _print_details(error, style)
        _tell_all(problems, style)
        return error.exit_code
    _print_details(error, style)
    hint = "" if style.verbose else "; run with -v for the traceback"
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    _tell(f"unexpected error: {one_line(reason)}{hint}", type(error).__name__, style)
    return 1


def report_interrupt(exit_code: int, style: Style) -> int:
    _tell("cancelled", "CancelledError", style)
    return exit_code


def _tell_all(problems: Sequence[TritonVideoError], style: Style) -> None:
    for problem in problems:
        print(f"{PROGRAM}: {one_line(str(problem))}", file=sys.stderr)
    if style.as_json:
        entries = [_entry(problem) for problem in problems]
        more = {"errors": entries} if len(entries) > 1 else {}
        print(json.dumps({"error": entries[0], **more}))


def _entry(error: TritonVideoError) -> dict[str, str]:
    kind = InputError.__name__ if isinstance(error, InputError) else type(error).__name__
    kind = "UsageError" if isinstance(error, UsageProblem) else kind
    entry = {"type": kind, "message": one_line(str(error))}
    return {**entry, "field": error.field} if isinstance(error, InputError) else entry


def _tell(sentence: str, kind: str, style: Style) -> None:
    print(f"{PROGRAM}: {one_line(sentence)}", file=sys.stderr)
    if style.as_json:
        print(json.dumps({"error": {"type": kind, "message": one_line(sentence)}}))


def _print_details(error: BaseException, style: Style) -> None:
    if not style.verbose:
        return
    details: Any = getattr(error, "details", None)
    text = "".join(traceback.format_exception(error)) + (f"{details}\n" if details else "")
    print(without_credentials(text), end="", file=sys.stderr)


def usage(error: click.ClickException) -> str:
    """click's sentence in our form."""
    text = error.format_message()
    return text[:1].lower() + text[1:].removesuffix(".")


def one_line(text: str) -> str:
    """The text in one line, without passwords. What could steer a terminal, as a file's name may,
    is shown as in Python's ``repr``.
    """
    line = without_credentials(" ".join(text.split()))
    line = line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in line)
