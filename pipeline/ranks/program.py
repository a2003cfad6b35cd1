"""The program of a rank: ``python -m pipeline.ranks.program CHANNEL RENDEZVOUS PARENT``.

CHANNEL and RENDEZVOUS are descriptors: of the socket to its leader, and of an empty file that all
ranks of the group inherit. It loads its weights, then runs requests until it ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.ensemble.tensors import ESTIMATE
from pipeline.ranks.messages import (
    Alive,
    Chunk,
    Chunks,
    Done,
    Encode,
    Failed,
    Ready,
    Run,
    Setup,
    Step,
    ToRank,
    Verdict,
)
from pipeline.ranks.wire import Arrays, Channel, split
from pipeline.system.parent import end_with

if TYPE_CHECKING:
    from pipeline.diffusion.residual_ratios import Ratios
    from pipeline.ranks.batch import Batch
    from pipeline.ranks.denoiser import Denoiser
    from pipeline.ranks.encoder import Encoder
    from pipeline.ranks.vae import Vae

HEARTBEAT_S = 1.0


def main(descriptor: int, rendezvous: int, parent: int) -> None:
    end_with(parent)
    # Ctrl-C in a terminal goes to the whole process group: the leader decides how to handle it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=descriptor), ToRank)
    try:
        _serve(channel, f"/proc/self/fd/{rendezvous}")
    except (EOFError, BrokenPipeError):
        sys.exit(1)  # the leader has ended
    except Exception as error:  # noqa: BLE001 - every error is reported to the leader
        sentence = f"{type(error).__name__}: {error}".splitlines()[0]
        channel.send(Failed(sentence=sentence, details=traceback.format_exc()))
        sys.exit(1)


def _serve(channel: Channel, store: str) -> None:
    received, _ = channel.receive()
    assert isinstance(received, Setup)
    setup = received.model_copy(update={"store": store})
    threading.Thread(target=_beat, args=(channel,), daemon=True).start()
    if setup.part == "dit":
        from pipeline.ranks.denoiser import Denoiser

        denoiser = Denoiser(setup)
        _answer(channel, str(denoiser.device), partial(_run, channel, denoiser))
    elif setup.part in ("vae_encoder", "vae_decoder"):
        from pipeline.ranks.vae import open_vae

        vae = open_vae(setup)
        _answer(channel, vae.device, partial(_chunks, channel, vae))
    else:
        from pipeline.ranks.encoder import Encoder

        encoder = Encoder(setup)
        _answer(channel, str(encoder.device), partial(_encode, channel, encoder))


def _answer(channel: Channel, device: str, work: Callable[[object, Arrays], None]) -> None:
    """Report that the rank is ready, then handle messages until the leader ends."""
    channel.send(Ready(device=device))
    while True:
        work(*channel.receive())


def _encode(channel: Channel, encoder: Encoder, message: object, arrays: Arrays) -> None:
    assert isinstance(message, Encode)
    made = encoder.run(arrays)
    channel.send(Done(), made if encoder.leads else None)


def _chunks(channel: Channel, vae: Vae, message: object, arrays: Arrays) -> None:
    """Run the VAE one chunk ahead of the leader, until the leader stops it."""
    assert isinstance(message, Chunks)
    for number, chunk in enumerate(vae.chunks(message, arrays)):
        if number and _stopped(channel):
            break
        channel.send(Chunk(), chunk)
    else:
        _stopped(channel)
    channel.send(Done())


def _stopped(channel: Channel) -> bool:
    return bool(_verdict(channel)[0].stop)


def _run(channel: Channel, denoiser: Denoiser, message: object, arrays: Arrays) -> None:
    """Run a batch. Before each step send the leader what has ended, and ask it which requests to
    stop and which ones join.

    Rank 0 broadcasts the answer to all ranks, together with the requests whose latents are not
    finite. Requests that join are sent to each rank.
    """
    assert isinstance(message, Run)
    count = len(message.requests)
    if error := denoiser.choose_loras(message.requests[0]):
        channel.send(Done(errors=dict.fromkeys(range(count), error)))
        return

    def before_step(batch: Batch) -> None:
        latents, verdict, conditions = batch.take(), Verdict(), Arrays()
        errors = batch.not_finite() if denoiser.leads else {}
        if denoiser.leads:
            step = _step(batch, errors, denoiser.take_peak_bytes())
            sent = _named(latents)
            if estimate := denoiser.take_estimate(batch):
                step = step.model_copy(update={"estimated": estimate[0]})
                sent[ESTIMATE.key] = estimate[1]
            channel.send(step, sent)
            verdict, conditions = _verdict(channel)
        stop, joins = denoiser.agree(
            batch.running, verdict.stop | errors.keys(), join=bool(verdict.joining)
        )
        if joins and not denoiser.leads:
            verdict, conditions = _verdict(channel)
        batch.stop(stop)
        batch.add(verdict.joining, split(conditions, len(verdict.joining)))

    ratios: Ratios | None = [] if message.measured else None
    latents = denoiser.run(message.requests, split(arrays, count), before_step, ratios)
    done = Done(
        ratios=ratios or [],
        compile_s=denoiser.take_compile_seconds(),
        peak_bytes=denoiser.take_peak_bytes(),
    )
    channel.send(done, _named(latents) if denoiser.leads else None)


def _step(batch: Batch, errors: dict[int, str], peak_bytes: int | None) -> Step:
    running = batch.running
    return Step(
        steps={place: sample.step for place, sample in running.items()},
        reused=frozenset(place for place, sample in running.items() if sample.reuses),
        open=batch.open,
        errors=errors,
        peak_bytes=peak_bytes,
    )


def _named(latents: dict[int, np.ndarray]) -> Arrays:
    return {str(place): array for place, array in latents.items()}


def _verdict(channel: Channel) -> tuple[Verdict, Arrays]:
    verdict, arrays = channel.receive()
    assert isinstance(verdict, Verdict)
    return verdict, arrays


def _beat(channel: Channel) -> None:
    pause = threading.Event()
    try:
        while not pause.wait(HEARTBEAT_S):
            channel.send(Alive())
    except OSError:
        # The leader has ended, and the main thread may be in a long computation or waiting for a
        # dead rank.
        os._exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
