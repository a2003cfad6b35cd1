"""What is in the images, and what is not."""

from __future__ import annotations

import json

import pytest

from tests.containers.conftest import IMAGES, VERSION
from tests.containers.docker import Docker

pytestmark = pytest.mark.containers
ABSENT = (
    "import importlib.util as u, shutil; print([name for name in {modules} if u.find_spec(name)],"
    " [name for name in ('gcc', 'make', 'git', 'pip', 'pip3') if shutil.which(name)])"
)


@pytest.mark.parametrize("image", IMAGES)
def test_image_has_this_version_and_runs_unprivileged(docker: Docker, image: str) -> None:
    assert docker.in_image(image, "triton-video", "--version") == VERSION
    assert docker.in_image(image, "id", "-u") == "1000"
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image))
    assert labels["org.opencontainers.image.version"] == VERSION


@pytest.mark.parametrize("image", IMAGES)
def test_image_holds_nothing_of_its_build(docker: Docker, image: str) -> None:
    assert (
        docker.in_image(image, "python3", "-c", ABSENT.format(modules=("pip", "hatchling")))
        == "[] []"
    )
    told = docker("history", "--no-trunc", image) + docker("image", "inspect", image)
    assert not [word for word in ("PIP_", "wheels", "index-url") if word in told]


@pytest.mark.parametrize("image", IMAGES)
def test_image_has_the_files_of_the_page(docker: Docker, image: str) -> None:
    program = (
        "from proxy.routes.page import page_routes as r; print(*(route.path for route in r()))"
    )
    paths = docker.in_image(image, "python3", "-c", program).split()
    assert {"/", "/docs", "/ui/main.js", "/ui/page.css"} <= set(paths)


def test_the_proxy_has_no_torch(docker: Docker) -> None:
    modules = ("torch", "diffusers", "transformers", "onnxruntime", "pytriton")
    assert docker.in_image(IMAGES[0], "python3", "-c", ABSENT.format(modules=modules)) == "[] []"
