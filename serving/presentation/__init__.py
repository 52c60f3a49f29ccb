"""The HTTP face: OpenAI-compatible routes on Flask, streaming, metrics, the chat page, the gunicorn server."""
