"""Every error of the API, in the shape that OpenAI's clients read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from obstore.exceptions import BaseError as StoreError
from starlette.exceptions import HTTPException

from pipeline.validation import Problem

logger = logging.getLogger(__name__)

# Error codes for programs; docs/reference/http-api.md explains each.
Code = Literal[
    "missing_required_parameter",
    "invalid_type",
    "invalid_value",
    "unknown_parameter",
    "unsupported_value",
    "unsupported_operation",
    "invalid_json",
    "invalid_form",
    "invalid_api_key",
    "invalid_link",
    "not_found",
    "not_ready",
    "model_not_found",
    "unknown_url",
    "method_not_allowed",
    "idempotency_conflict",
    "body_too_large",
    "unsupported_content_type",
    "invalid_range",
    "queue_full",
    "rate_limit_exceeded",
    "too_many_streams",
    "request_timeout",
    "server_busy",
    "internal_error",
    "backend_unavailable",
    "database_unavailable",
    "storage_unavailable",
    "storage_full",
]
FailureCode = Literal[
    "backend_error", "cancelled", "interrupted", "out_of_memory", "storage_error", "timeout"
]

RETRY_AFTER_S = "5"
MAX_SHOWN_CHARACTERS = 200  # of text that the client chose
ERROR_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


class ApiError(Exception):
    """An error response. ``param`` names the field at fault; ``code`` is for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: Code | FailureCode | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.body = error_body(status, message, code, param)
        self.headers = dict(headers or {})


class DatabaseUnavailableError(ApiError):
    """The job database does not answer. The transaction may or may not have been committed."""

    def __init__(self) -> None:
        message = "The job database does not answer; try again soon."
        headers = {"retry-after": RETRY_AFTER_S}
        super().__init__(
            HTTPStatus.SERVICE_UNAVAILABLE, message, code="database_unavailable", headers=headers
        )


def error_body(
    status: int, message: str, code: Code | FailureCode | None, param: str | None
) -> dict[str, object]:
    default = (
        "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    )
    kind = ERROR_TYPES.get(HTTPStatus(status), default)
    shown = None if param is None else _sendable(param)
    return {"error": {"message": _sendable(message), "type": kind, "param": shown, "code": code}}


def invalid(param: str | None, message: str, code: Code = "invalid_value") -> ApiError:
    """Return the error 400 of a request whose field ``param`` is invalid."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, code=code, param=param)


def invalid_field(name: str, problem: Problem) -> ApiError:
    """Return the error 400 of a field that pydantic refused; ``name`` is what the client sent."""
    is_type = problem.kind.endswith(("_type", "_parsing"))
    code: Code = "invalid_type" if is_type else "invalid_value"
    return invalid(name, f"{name}: {problem.message}.", code)


def refuse_bool(name: str, value: object) -> None:
    """Raise ``ApiError`` 400 for true and false, which Python takes for numbers."""
    if isinstance(value, bool):
        raise invalid(name, f"{name}: should not be true or false.", "invalid_type")


def video_not_found(video_id: str, field: str = "video_id") -> ApiError:
    """Return the error 404, also for a video of another key: its existence is not revealed."""
    shown = video_id[:80]
    return ApiError(
        HTTPStatus.NOT_FOUND,
        f"No video with the id {shown!r} was found.",
        code="not_found",
        param=field,
    )


def not_ready() -> ApiError:
    """Return the error 404 for the file of an unfinished video."""
    message = "Video is not ready yet, use GET /v1/videos/{video_id} to check status."
    return ApiError(HTTPStatus.NOT_FOUND, message, code="not_ready")


def no_model() -> ApiError:
    """Return the error 503 while no Triton has answered, so that no model is known."""
    message = "No inference server is up yet; try again soon."
    return _unavailable("backend_unavailable", message)


def unknown_model(name: str, models: Iterable[str]) -> ApiError:
    """Return the error 404 for a model that no Triton serves; no other model replaces it."""
    known = " or ".join(map(repr, models))
    message = f"The model {name[:80]!r} does not exist; this server has {known}."
    return ApiError(HTTPStatus.NOT_FOUND, message, code="model_not_found", param="model")


def store_unavailable() -> ApiError:
    """Return the error 503 for a video store that cannot be read or written."""
    message = "The video store does not answer; try again soon."
    return _unavailable("storage_unavailable", message)


def storage_full() -> ApiError:
    """Return the error 507, not to be retried: space does not come back within seconds."""
    return ApiError(
        HTTPStatus.INSUFFICIENT_STORAGE,
        "The server's disk is full, and new videos are refused; delete videos to free space.",
        code="storage_full",
        headers={"x-should-retry": "false"},
    )


def _unavailable(code: Code, message: str) -> ApiError:
    headers = {"retry-after": RETRY_AFTER_S}
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code=code, headers=headers)


def install(app: FastAPI) -> None:
    """Send every error of ``app`` in this shape, also those of the framework."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(StoreError, _store_error)
    app.add_exception_handler(RequestValidationError, _bad_parameter)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)


async def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, error.headers)


async def _store_error(request: Request, error: Exception) -> JSONResponse:
    # Only the type: the store's message may hold its address or a signature.
    logger.warning("the video store does not answer: %s", type(error).__name__)
    return await _api_error(request, store_unavailable())


async def _bad_parameter(request: Request, error: Exception) -> JSONResponse:
    """Handle an invalid URL parameter, which FastAPI checks itself."""
    assert isinstance(error, RequestValidationError)
    detail = error.errors()[0]
    name = str(detail["loc"][-1])
    return await _api_error(request, invalid(name, f"{name}: {detail['msg']}."))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Handle an unknown route or method, which Starlette raises itself."""
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    # Not request.url: it contains the Host header.
    method, path = (
        request.method[:MAX_SHOWN_CHARACTERS],
        request.scope["path"][:MAX_SHOWN_CHARACTERS],
    )
    code: Code | None = None
    if error.status_code == HTTPStatus.NOT_FOUND:
        message, code = f"Unknown request URL: {method} {path}.", "unknown_url"
        if path.endswith("/"):
            message += " Try it without the slash at the end."
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message, code = f"{method} is not allowed on {path}.", "method_not_allowed"
    return JSONResponse(
        error_body(error.status_code, message, code, None), error.status_code, error.headers
    )


def _sendable(text: str) -> str:
    """Escape lone surrogates, which JSON can express and UTF-8 cannot."""
    return text.encode(errors="backslashreplace").decode()


async def _fault(_: Request, error: Exception) -> JSONResponse:
    # No details in the response: they may hold a path or a prompt. The log has the traceback.
    logger.error("a request failed", exc_info=error)
    body = error_body(
        HTTPStatus.INTERNAL_SERVER_ERROR, "The server had an error.", "internal_error", None
    )
    return JSONResponse(body, HTTPStatus.INTERNAL_SERVER_ERROR)
