"""The stateless graph, run on tiles of several lengths, against the decode of the whole clip in
diffusers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.records import COMPONENT_FILE
from pipeline.decoders import Decoder
from pipeline.decoders.tile import TileEngine
from pipeline.families.parts import VAE_DECODER
from tests.export.exporting import BOUNDS, export_all, findings
from tests.needs import exhaustive
from tests.vaes import reference

TOLERANCE = 1e-5

FRAMES_PER_LATENT = {"wan21": 4, "patched": 4, "residual": 2}


@pytest.fixture(scope="session")
def exported(vae_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported-tile")
    export_all(
        VAE_DECODER, "AutoencoderKLWan", vae_folder, folder, replace(BOUNDS, vae_engine="tile")
    )
    return folder


@pytest.mark.parametrize("vae_folder", ["wan21", exhaustive("patched"), "residual"], indirect=True)
class TestExportedTile:
    def test_the_graph_compiles(self, vae_folder: Path, exported: Path) -> None:
        assert findings(exported) == {"tile": ()}

    @pytest.mark.parametrize("size", [(1, 4, 3), (2, 3, 5), (5, 5, 4), (3, 1, 6)])
    def test_equals_whole_clip_decode(
        self,
        request: pytest.FixtureRequest,
        vae_folder: Path,
        exported: Path,
        size: tuple[int, int, int],
    ) -> None:
        name = request.node.callspec.params["vae_folder"]
        decoder = Decoder(
            TileEngine.open(exported, 1, FRAMES_PER_LATENT[name], min_latent_frames=2)
        )
        latents = np.random.default_rng(3).standard_normal((1, decoder.channels, *size), np.float32)
        expected = reference(vae_folder, latents)
        assert expected.std() > 0.05, "a flat image would hide mistakes"

        (frames,) = decoder.decode(latents)

        np.testing.assert_allclose(frames, expected, rtol=0, atol=TOLERANCE)

    def test_several_tiles_decode_at_once(self, vae_folder: Path, exported: Path) -> None:
        session = TileEngine.open(exported, 1, 4, min_latent_frames=2).session
        channels = session.inputs["latents"][1]
        latents = np.random.default_rng(0).standard_normal((3, channels, 2, 2, 3), np.float32)

        (together,) = session.run(["frames"], {"latents": latents})
        apart = [
            session.run(["frames"], {"latents": latents[i : i + 1]})[0].numpy() for i in range(3)
        ]

        np.testing.assert_allclose(together.numpy(), np.concatenate(apart), rtol=0, atol=TOLERANCE)

    def test_the_folder_has_only_the_graph_and_its_record(self, exported: Path) -> None:
        assert sorted(file.name for file in exported.iterdir()) == [COMPONENT_FILE, "tile.onnx"]
        assert [value.name for value in onnx.load(exported / "tile.onnx").graph.input] == [
            "latents"
        ]
