"""The OpenAI Videos API over durable jobs. Not written yet: this release has no HTTP API, only
the command line.
"""
