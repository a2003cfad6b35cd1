"""Requests to the ``control`` model need a token if a digest is set."""

from pipeline.triton.control_token import DIGEST_VARIABLE, digest, permits


def test_without_a_digest_no_token_is_needed():
    assert permits(None, {})


def test_with_a_digest_only_its_token_is_accepted():
    environment = {DIGEST_VARIABLE: digest("right")}
    assert permits("right", environment)
    assert not any(
        permits(token, environment) for token in (None, "", "wrong", environment[DIGEST_VARIABLE])
    )
