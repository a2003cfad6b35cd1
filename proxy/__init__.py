"""The OpenAI Videos API over durable jobs: the HTTP server, its job queue and its workers."""
