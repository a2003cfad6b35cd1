"""Reports errors: one sentence each on standard error, and JSON if requested."""

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
MAX_CHARACTERS = 4000  # of an error message, which may repeat a value of megabytes


class UsageProblem(TritonVideoError):  # noqa: N818 - click has a UsageError
    """A word of the command line is not valid."""

    exit_code = 2


class InputErrors(InputError):  # noqa: N818 - the plural of its parent
    """One or more parameters are wrong; ``errors`` holds an error for each.

    Field and message are those of the first.
    """

    def __init__(self, errors: Sequence[TritonVideoError]):
        first = errors[0]
        field = first.field if isinstance(first, InputError) else "command line"
        super().__init__(field, str(first).removeprefix(f"{field}: "))
        self.errors = tuple(errors)


def all_of(*steps: Callable[[], Any]) -> list[Any]:
    """Run all steps and return their results.

    Raises ``InputErrors`` with the errors of every step, not only of the first that fails.
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
    """Return the known name that is most similar to ``name``, or None."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), None)


@dataclass
class Style:
    """How a failure is reported.

    It is guessed from the raw arguments at first, because parsing them may be what fails.
    """

    verbose: bool = False
    as_json: bool = False

    @classmethod
    def guess(cls, arguments: Sequence[str]) -> Style:
        short = (argument for argument in arguments if re.fullmatch(r"-[qv]+", argument))
        verbose = "--verbose" in arguments or any("v" in argument for argument in short)
        return cls(verbose=verbose, as_json="--json" in arguments)


def report(error: BaseException, style: Style) -> int:
    """Print the error and return its exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if isinstance(error, click.ClickException):
        _print(usage(error), "UsageError", style)
        return error.exit_code
    if isinstance(error, TritonVideoError):
        problems = error.errors if isinstance(error, InputErrors) else (error,)
        _print_details(error, style)
        _print_all(problems, style)
        return error.exit_code
    _print_details(error, style)
    hint = "" if style.verbose else "; run with -v for the traceback"
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    _print(f"unexpected error: {one_line(reason)}{hint}", type(error).__name__, style)
    return 1


def report_interrupt(exit_code: int, style: Style) -> int:
    """Print that the run was cancelled and return its exit code."""
    _print("cancelled", "CancelledError", style)
    return exit_code


def _print_all(problems: Sequence[TritonVideoError], style: Style) -> None:
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


def _print(sentence: str, kind: str, style: Style) -> None:
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
    """Return click's message in the form of the other errors: lower case, no period."""
    text = error.format_message()
    return text[:1].lower() + text[1:].removesuffix(".")


def one_line(text: str) -> str:
    """Return the text in one line, without passwords and control characters.

    Control characters, which a file name may hold, are escaped as in Python's ``repr``.
    """
    line = without_credentials(" ".join(text.split()))
    line = line if len(line) <= MAX_CHARACTERS else f"{line[:MAX_CHARACTERS]}..."
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in line)
