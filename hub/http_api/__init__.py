"""The server: HTTP, server-sent events, who is let in, and the process around them. Owns fastapi and uvicorn."""
