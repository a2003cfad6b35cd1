"""Health, metrics, and the list of models."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from proxy.context import Ctx
from proxy.keys import owner
from proxy.schema import Model, ModelList

router = APIRouter(tags=["operation"])
Key = Depends(owner)


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
@router.get("/health")
async def readyz(ctx: Ctx) -> JSONResponse:
    """A Triton serves a model, all its stages alive, and the database can be written."""
    checks = {"triton": any(ctx.tritons.healthy.values()), "database": await ctx.jobs.writable()}
    ready = all(checks.values())
    return JSONResponse({"status": "ok" if ready else "unavailable", "checks": checks}, 200 if ready else 503)


@router.get("/metrics", dependencies=[Key], response_class=Response)
async def metrics(ctx: Ctx) -> Response:
    """Counts of this process and of the queue, in Prometheus's text format."""
    page = ctx.metrics.page(await ctx.jobs.counts(), ctx.tritons.healthy)
    return Response(page, headers={"content-type": CONTENT_TYPE_LATEST})


@router.get("/v1/models", dependencies=[Key], response_model=ModelList)
async def models(ctx: Ctx) -> ModelList:
    """What ``model`` in a create request may be."""
    return ModelList(data=[Model(id=name) for name in ctx.tritons.models])
