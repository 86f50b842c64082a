"""The local web page and HTTP API (extra `serve`)."""
