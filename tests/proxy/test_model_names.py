"""The names of models: those of checkpoints, and the operator's (``--served-model-name``)."""

from __future__ import annotations

import pytest

from proxy.settings import ProxySettings
from tests.proxy.conftest import ERROR_KEYS, Opener, on_both


@on_both
async def test_alias_is_listed_accepted_and_echoed(serve: Opener) -> None:
    async with serve(served_model_name=("sora-2", "openai/sora-2-pro")) as api:
        listed = [each["id"] for each in (await api.http.get("/v1/models")).json()["data"]]
        assert listed == ["shapes", "sora-2", "openai/sora-2-pro"]
        for name in listed:
            created = await api.create(model=name)
            assert created["model"] == name
            assert (await api.wait(created["id"]))["model"] == name
        videos = (await api.http.get("/v1/videos")).json()["data"]
        assert [video["model"] for video in videos] == listed[::-1]
        assert (await api.create())["model"] == "shapes"


@pytest.mark.parametrize("path", ["shapes", "sora-2", "openai/sora-2-pro", "openai%2Fsora-2-pro"])
async def test_model_is_retrieved_by_each_name(serve: Opener, path: str) -> None:
    async with serve(served_model_name=("sora-2", "openai/sora-2-pro")) as api:
        answer = await api.http.get(f"/v1/models/{path}")
        assert answer.status_code == 200
        listed = (await api.http.get("/v1/models")).json()["data"]
        assert answer.json() in listed
        assert answer.json()["id"] == path.replace("%2F", "/")


@pytest.mark.parametrize("name", ["sora-3", "SORA-2", "sora-2/x", "x" * 5000])
async def test_unknown_name_is_404_and_the_error_lists_all_names(serve: Opener, name: str) -> None:
    async with serve(served_model_name=("sora-2",)) as api:
        for answer in (
            await api.http.get(f"/v1/models/{name}"),
            await api.http.post("/v1/videos", json={"prompt": "x", "model": name}),
        ):
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (404, "model_not_found")
            assert error.keys() == ERROR_KEYS
            assert "'shapes' or 'sora-2'" in error["message"]
            assert len(error["message"]) < 200


async def test_model_needs_a_key(serve: Opener) -> None:
    async with serve() as api:
        answer = await api.http.get("/v1/models/shapes", headers={"authorization": ""})
        assert answer.status_code == 401


async def test_remix_keeps_the_alias_while_it_is_served(serve: Opener) -> None:
    async with serve(served_model_name=("sora-2",)) as api:
        source = await api.create(model="sora-2")
        await api.wait(source["id"])
        url = f"/v1/videos/{source['id']}/remix"
        assert (await api.http.post(url, json={"prompt": "y"})).json()["model"] == "sora-2"
    async with serve() as api:
        assert (await api.http.get(f"/v1/videos/{source['id']}")).json()["model"] == "sora-2"
        assert (await api.http.post(url, json={"prompt": "z"})).json()["model"] == "shapes"


async def test_metrics_count_the_model_and_not_its_alias(serve: Opener) -> None:
    async with serve(served_model_name=("sora-2",)) as api:
        await api.wait((await api.create(model="sora-2"))["id"])
        page = (await api.http.get("/metrics")).text
        assert 'triton_video_jobs_created_total{model="shapes"} 1.0' in page
        assert "sora-2" not in page


@pytest.mark.parametrize("name", ["a b", "", "\n", "x" * 201])
def test_name_that_no_client_could_send_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="served_model_name"):
        ProxySettings(served_model_name=(name,))
