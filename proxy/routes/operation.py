"""Health, metrics, and the list of models."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from proxy.context import Ctx, Key
from proxy.models import Model, ModelList
from proxy.openapi import error_answers
from proxy.schema import Health

router = APIRouter(tags=["operation"])
METRICS_ANSWERS: dict[int | str, dict[str, Any]] = {
    **error_answers(401),
    200: {"content": {"text/plain": {}}},
}
UNREADY_ANSWER: dict[int | str, dict[str, Any]] = {503: {"model": Health}}


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=Health, responses=UNREADY_ANSWER)
@router.get("/health", response_model=Health, responses=UNREADY_ANSWER)
async def readyz(ctx: Ctx) -> JSONResponse:
    """A Triton serves a model, all its stages alive, and database and store take a write."""
    health = await ctx.service.readiness.health()
    return JSONResponse(health.model_dump(), 200 if health.status == "ok" else 503)


@router.get("/metrics", dependencies=[Key], response_class=Response, responses=METRICS_ANSWERS)
async def metrics(ctx: Ctx) -> Response:
    """Counts of this process and of the queue, in Prometheus's text format."""
    counts, healthy = await ctx.service.jobs.counts(), ctx.service.tritons.healthy
    page = ctx.service.metrics.page(counts, healthy)
    return Response(page, headers={"content-type": CONTENT_TYPE_LATEST})


@router.get(
    "/metrics/triton",
    dependencies=[Key],
    response_class=Response,
    responses={**METRICS_ANSWERS, **error_answers(404, 503)},
)
async def triton_metrics(ctx: Ctx) -> Response:
    """The metrics of the Triton that this server started, in Prometheus's text format."""
    page = await ctx.triton_metrics.page()
    return Response(page, headers={"content-type": CONTENT_TYPE_LATEST})


@router.get(
    "/v1/models", dependencies=[Key], response_model=ModelList, responses=error_answers(401)
)
async def models(ctx: Ctx) -> ModelList:
    """What ``model`` in a create request may be, and what a video of each may be."""
    names = ctx.videos.names.all()
    return ModelList(data=[Model.of(name, ctx.videos.model(name)) for name in names])


# The name may have a slash, such as Org/Name.
@router.get(
    "/v1/models/{model:path}",
    dependencies=[Key],
    response_model=Model,
    responses=error_answers(401, 404, 503),
)
async def model(model: Annotated[str, Path(description="A name of a model.")], ctx: Ctx) -> Model:
    """A model that ``model`` in a create request may name."""
    if not model:
        raise HTTPException(HTTPStatus.NOT_FOUND)  # of an unknown path
    return Model.of(model, ctx.videos.model(model))
