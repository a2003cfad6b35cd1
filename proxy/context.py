"""What a route may depend on: who asks, and the service of this process."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from proxy.keys import owner
from proxy.service import Service


def service(request: Request) -> Service:
    return request.app.state.service


Owner = Annotated[str, Depends(owner)]
Ctx = Annotated[Service, Depends(service)]
