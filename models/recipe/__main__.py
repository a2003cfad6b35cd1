"""``python -m models.recipe``: train ``models/shapes`` from scratch, or resume the last run."""

from __future__ import annotations

import argparse
from pathlib import Path

from models.recipe import train_decoder, train_dit, train_prefix, train_vae
from models.recipe.checkpoint import load_checkpoint, write_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path("build/shapes"), help="where states and logs are kept"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("models/shapes"), help="the checkpoint folder to write"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--model", type=Path, help="continue from the VAE and the transformer of this checkpoint"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.model:
        vae, networks, tokenizer = load_checkpoint(options.model)
    else:
        vae = train_vae.train(options.work, options.seed)
        networks, tokenizer = train_dit.train(vae, options.work, options.seed)
    train_prefix.train(networks, tokenizer, vae, options.work, options.seed)
    train_decoder.train(vae, options.work, options.seed)
    write_checkpoint(vae, networks.text_encoder, networks.transformer, tokenizer, options.output)


if __name__ == "__main__":
    main()
