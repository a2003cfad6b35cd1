"""Every error of the API, in the one shape that OpenAI's clients read, made in one place."""

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

logger = logging.getLogger(__name__)

# What programs may compare with; docs/reference/http-api.md says when each comes.
Code = Literal[
    "missing_required_parameter", "invalid_type", "invalid_value", "unknown_parameter", "unsupported_value",
    "unsupported_operation",
    "invalid_json", "invalid_form", "invalid_api_key", "not_found", "not_ready", "model_not_found", "unknown_url",
    "method_not_allowed", "idempotency_conflict", "body_too_large", "unsupported_content_type", "invalid_range",
    "queue_full", "rate_limit_exceeded", "too_many_streams", "request_timeout", "server_busy",
    "internal_error", "backend_unavailable",
    "database_unavailable", "storage_unavailable", "storage_full",
]  # fmt: skip
FailureCode = Literal[
    "backend_error", "cancelled", "interrupted", "out_of_memory", "storage_error", "timeout"
]

RETRY_AFTER_S = "5"
MAX_SHOWN_CHARACTERS = 200  # characters of what the sender chose
ERROR_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


class ApiError(Exception):
    """An answer other than success. ``param`` names the field at fault, ``code`` is for
    programs.
    """

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
    """The job database does not answer. Nothing is known of the transaction then: it may have
    been committed.
    """

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
    """A request that is wrong in the field ``param``."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, code=code, param=param)


def video_not_found(video_id: str) -> ApiError:
    """Also for another key's video: whether it exists is none of the caller's business."""
    shown = video_id[:80]
    return ApiError(
        HTTPStatus.NOT_FOUND,
        f"No video with the id {shown!r} was found.",
        code="not_found",
        param="video_id",
    )


def not_ready() -> ApiError:
    """The file of a video that is not finished."""
    message = "Video is not ready yet, use GET /v1/videos/{video_id} to check status."
    return ApiError(HTTPStatus.NOT_FOUND, message, code="not_ready")


def no_model() -> ApiError:
    """No Triton has answered yet, so that no model is known."""
    message = "No inference server is up yet; try again soon."
    return _unavailable("backend_unavailable", message)


def unknown_model(name: str, models: Iterable[str]) -> ApiError:
    """A model that none of the Tritons serves; another one is never used instead of it."""
    known = " or ".join(map(repr, models))
    message = f"The model {name[:80]!r} does not exist; this server has {known}."
    return ApiError(HTTPStatus.NOT_FOUND, message, code="model_not_found", param="model")


def store_unavailable() -> ApiError:
    """The video store cannot be read or written."""
    message = "The video store does not answer; try again soon."
    return _unavailable("storage_unavailable", message)


def storage_full() -> ApiError:
    """New videos are refused. SDKs need not try again: space does not come back within seconds."""
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
    """Answer every error of ``app`` in this shape, also those of the framework."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(StoreError, _store_error)
    app.add_exception_handler(RequestValidationError, _bad_parameter)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)


async def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, error.headers)


async def _store_error(request: Request, error: Exception) -> JSONResponse:
    # Only the type: an object store's own words hold its address and sometimes a signature.
    logger.warning("the video store does not answer: %s", type(error).__name__)
    return await _api_error(request, store_unavailable())


async def _bad_parameter(request: Request, error: Exception) -> JSONResponse:
    """What FastAPI checks itself: the parameters of a URL."""
    assert isinstance(error, RequestValidationError)
    detail = error.errors()[0]
    name = str(detail["loc"][-1])
    return await _api_error(request, invalid(name, f"{name}: {detail['msg']}."))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """What Starlette raises itself: unknown routes and methods."""
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    # Not request.url, which is made from the Host header.
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
    """JSON may bring half of a surrogate pair, and UTF-8 has no such thing."""
    return text.encode(errors="backslashreplace").decode()


async def _fault(_: Request, error: Exception) -> JSONResponse:
    # No detail: it may hold a path or a prompt. The log has the traceback.
    logger.error("a request failed", exc_info=error)
    body = error_body(
        HTTPStatus.INTERNAL_SERVER_ERROR, "The server had an error.", "internal_error", None
    )
    return JSONResponse(body, HTTPStatus.INTERNAL_SERVER_ERROR)
