"""A request repeated with the same ``Idempotency-Key`` makes one video."""

from __future__ import annotations

from tests.proxy.conftest import Opener, on_both


@on_both
async def test_idempotency_key_returns_the_same_job(serve: Opener) -> None:
    async with serve() as api:
        headers, body = {"idempotency-key": "once"}, {"prompt": "x"}
        first, again = [
            (await api.http.post("/v1/videos", json=body, headers=headers)).json() for _ in range(2)
        ]
        assert first["id"] == again["id"]
        other = await api.http.post("/v1/videos", json={"prompt": "y"}, headers=headers)
        assert (other.status_code, other.json()["error"]["code"]) == (
            409,
            "idempotency_conflict",
        )
        assert len((await api.http.get("/v1/videos")).json()["data"]) == 1


@on_both
async def test_idempotency_key_has_at_most_255_characters(serve: Opener) -> None:
    """Longer keys are refused: cut off, two of them could become the same."""
    async with serve() as api:
        for url in ("/v1/videos", "/v1/videos/sync"):
            headers = {"idempotency-key": "k" * 255}
            made = [
                await api.http.post(url, json={"prompt": "x"}, headers=headers) for _ in range(2)
            ]
            assert [answer.status_code for answer in made] == [200, 200]
            long = await api.http.post(
                url, json={"prompt": "x"}, headers={"idempotency-key": "k" * 256}
            )
            error = long.json()["error"]
            assert (long.status_code, error["code"], error["param"]) == (
                400,
                "invalid_value",
                "Idempotency-Key",
            )
            assert error["message"].endswith("it has 256 characters; up to 255 are accepted.")
        assert len((await api.http.get("/v1/videos")).json()["data"]) == 1
