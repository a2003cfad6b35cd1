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
    json_log: bool = False
    """Whether standard error is a log in JSON."""

    @classmethod
    def guess(cls, arguments: Sequence[str]) -> Style:
        short = (argument for argument in arguments if re.fullmatch(r"-[qv]+", argument))
        verbose = "--verbose" in arguments or any("v" in argument for argument in short)
        json_log = " --log-format json" in " ".join(arguments).replace("=", " ")
        return cls(verbose=verbose, as_json="--json" in arguments, json_log=json_log)


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
        _print_all(problems, style, _details(error, style))
        return error.exit_code
    hint = "" if style.verbose else "; run with -v for the traceback"
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    sentence = f"unexpected error: {one_line(reason)}{hint}"
    _print(sentence, type(error).__name__, style, _details(error, style))
    return 1


def report_interrupt(exit_code: int, style: Style) -> int:
    """Print that the run was cancelled and return its exit code."""
    _print("cancelled", "CancelledError", style)
    return exit_code


def _print_all(problems: Sequence[TritonVideoError], style: Style, details: str) -> None:
    for problem in problems:
        _print_sentence(one_line(str(problem)), style, details)
        details = ""
    if style.as_json:
        entries = [_entry(problem) for problem in problems]
        more = {"errors": entries} if len(entries) > 1 else {}
        print(json.dumps({"error": entries[0], **more}))


def _entry(error: TritonVideoError) -> dict[str, str]:
    kind = InputError.__name__ if isinstance(error, InputError) else type(error).__name__
    kind = "UsageError" if isinstance(error, UsageProblem) else kind
    entry = {"type": kind, "message": one_line(str(error))}
    return {**entry, "field": error.field} if isinstance(error, InputError) else entry


def _print(sentence: str, kind: str, style: Style, details: str = "") -> None:
    _print_sentence(one_line(sentence), style, details)
    if style.as_json:
        print(json.dumps({"error": {"type": kind, "message": one_line(sentence)}}))


def _print_sentence(sentence: str, style: Style, details: str) -> None:
    if style.json_log:
        from cli.log_lines import error_line

        print(error_line(sentence, details), file=sys.stderr)
    else:
        print(f"{details}{PROGRAM}: {sentence}", file=sys.stderr)


def _details(error: BaseException, style: Style) -> str:
    """Return the traceback and the server's log, if they are to be printed."""
    if not style.verbose:
        return ""
    details: Any = getattr(error, "details", None)
    text = "".join(traceback.format_exception(error)) + (f"{details}\n" if details else "")
    return without_credentials(text)


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
