"""Health, and the list of models."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from proxy.context import Context, context
from proxy.keys import owner
from proxy.routes.videos import Ctx
from proxy.schema import Model, ModelList

router = APIRouter(tags=["operation"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
@router.get("/health")
async def readyz(ctx: Ctx) -> JSONResponse:
    """Triton serves the model and the database answers."""
    checks = {"triton": await ctx.triton.ready(), "database": await ctx.jobs.answers()}
    ready = all(checks.values())
    return JSONResponse({"status": "ok" if ready else "unavailable", "checks": checks}, 200 if ready else 503)


@router.get("/v1/models", dependencies=[Depends(owner)], response_model=ModelList)
async def models(ctx: Context = Depends(context)) -> ModelList:  # noqa: B008 - FastAPI's way
    """What ``model`` in a create request may be."""
    return ModelList(data=[Model(id=ctx.model.name)] if ctx.model else [])
