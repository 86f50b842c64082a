"""The API's description as OpenAPI 3.1; the record's schema is the file that defines it."""

from __future__ import annotations

import json
import os
from typing import Any

from edge_runtime import __version__

_SCHEMA = os.path.join(os.path.dirname(__file__), "..", "..", "schemas", "result-1.schema.json")


def describe_api(max_bytes: int, token: bool) -> dict[str, Any]:
    """The content of /openapi.json."""
    with open(_SCHEMA, encoding="utf-8") as file:
        record = json.load(file)
    record.pop("$schema", None)
    record.pop("$id", None)
    problem = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            }
        },
    }
    problem_content = {"application/json": {"schema": {"$ref": "#/components/schemas/problem"}}}

    def refusals(*codes: int) -> dict[str, Any]:
        texts = {
            400: "The request is malformed.",
            401: "The token is missing or wrong.",
            408: "The request took too long.",
            413: f"More than {max_bytes} bytes.",
            421: "The Host header names a host that is not served.",
            422: "The bytes are no image that can be read.",
            503: "Too many images are waiting.",
        }
        chosen = {*codes, 421} | ({401} if token else set())
        return {
            str(code): {"description": texts[code], "content": problem_content}
            for code in sorted(chosen)
        }

    image = {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
    text = {"text/plain": {"schema": {"type": "string"}}}
    api: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "cxr-edge",
            "version": __version__,
            "description": "Chest X-ray pneumonia screening. Screening support, not a diagnosis.",
        },
        "paths": {
            "/v1/screen": {
                "post": {
                    "summary": "Screen one image",
                    "description": "An image that cannot be read gives a record with status "
                    "`error`, as in a batch: the answer is 200.",
                    "requestBody": image,
                    "responses": {
                        "200": {
                            "description": "The result record.",
                            "content": {
                                "application/json": {
                                    "schema": {"$ref": "#/components/schemas/record"}
                                }
                            },
                        }
                    }
                    | refusals(400, 408, 413, 503),
                }
            },
            "/v1/heatmap": {
                "post": {
                    "summary": "The evidence map over the image",
                    "parameters": [
                        {
                            "name": "layer",
                            "in": "query",
                            "schema": {"enum": ["overlay", "image", "map"], "default": "overlay"},
                        }
                    ],
                    "requestBody": image,
                    "responses": {
                        "200": {
                            "description": "A picture.",
                            "content": {
                                kind: {"schema": {"type": "string", "format": "binary"}}
                                for kind in ("image/jpeg", "image/png")
                            },
                        }
                    }
                    | refusals(400, 408, 413, 422, 503),
                }
            },
            "/v1/info": {
                "get": {
                    "summary": "Model, engine, operating point",
                    "responses": {
                        "200": {
                            "description": "What is in use.",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        }
                    }
                    | refusals(),
                }
            },
            "/v1/messages": {
                "get": {
                    "summary": "Sentences for codes, in the language that the client accepts",
                    "parameters": [
                        {
                            "name": "lang",
                            "in": "query",
                            "schema": {"type": "string"},
                        }
                    ],
                    "responses": {
                        "200": {
                            "description": "Key to sentence.",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        }
                    }
                    | refusals(),
                }
            },
            "/healthz": {
                "get": {
                    "summary": "Is the process alive?",
                    "responses": {"200": {"description": "Yes.", "content": text}} | refusals(),
                }
            },
            "/readyz": {
                "get": {
                    "summary": "Would an image be taken now?",
                    "responses": {
                        "200": {"description": "Yes.", "content": text},
                        "503": {"description": "No.", "content": text},
                    }
                    | {k: v for k, v in refusals().items() if k != "503"},
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Counters in Prometheus' text format",
                    "responses": {"200": {"description": "Counters.", "content": text}}
                    | refusals(),
                }
            },
        },
        "components": {"schemas": {"record": record, "problem": problem}},
    }
    if token:
        api["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        api["security"] = [{"token": []}]
    return api
