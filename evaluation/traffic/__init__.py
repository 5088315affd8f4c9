"""A stream of requests to OpenAI-compatible servers, side by side: the load, the client, measuring, the report."""
