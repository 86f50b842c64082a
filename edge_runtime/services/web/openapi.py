"""The API's description as OpenAPI 3.1; the record's schema is the file that defines it.

openapi.json beside this file is the description, but for what depends on the settings; an
operation's `refusals` name the codes of errors that it may answer, beside those of every one.
"""

from __future__ import annotations

import json
import os
from typing import Any

from edge_runtime import __version__

_HERE = os.path.dirname(__file__)
_RECORD = os.path.join(_HERE, "..", "..", "schemas", "result-1.schema.json")
_PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/problem"}}}


def describe_api(max_bytes: int, token: bool, labelling: bool = False) -> dict[str, Any]:
    """The content of /openapi.json, with the films to label where there are any."""
    with open(os.path.join(_HERE, "openapi.json"), encoding="utf-8") as file:
        document = json.load(file)
    with open(_RECORD, encoding="utf-8") as file:
        record = json.load(file)
    texts = document["refusals"] | {"413": f"More than {max_bytes} bytes."}
    api: dict[str, Any] = document["api"]
    api["info"]["version"] = __version__
    api["paths"] |= document["labelling"] if labelling else {}
    for path in api["paths"].values():
        for method, operation in path.items():
            codes = {*operation.pop("refusals", ()), 421} | ({401} if token else set())
            codes |= {403} if method in ("post", "put") else set()
            operation["responses"] |= {
                str(code): {"description": texts[str(code)], "content": _PROBLEM}
                for code in sorted(codes)
            }
    components = api["components"]
    components["schemas"]["record"] = {
        key: value for key, value in record.items() if key not in ("$schema", "$id")
    }
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        api["security"] = [{"token": []}]
    return api
