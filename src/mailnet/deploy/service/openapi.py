"""What OpenAPI says of the forms and of refusals: the fields are those of the models at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailnet.data.config import ImageConfig, PixelConfig
from mailnet.deploy.service.schemas import ErrorAnswer
from mailnet.deploy.service.served import Served

_REASONS = {
    400: "The form or a field of it cannot be read.",
    401: "The token is missing or wrong.",
    403: "The request comes from a page of another site.",
    404: "There is no such model.",
    408: "The upload takes too long.",
    413: "The upload, or what it unpacks to, is too large.",
    415: "The body is no multipart form.",
    421: "The service is called by a name that it does not know.",
    422: "The study, or a parameter, cannot be used.",
    503: "The service is busy; Retry-After says when to come again. No fault of the request.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what routes say of these refusals."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        found[status] = {"model": ErrorAnswer, "description": _REASONS[status]}
        if status in (401, 503):
            name = "WWW-Authenticate" if status == 401 else "Retry-After"
            found[status]["headers"] = {name: {"schema": {"type": "string"}}}
    return found


def form(models: Mapping[str, Served]) -> dict[str, Any]:
    """Return the body of a study: a field a modality, ``table`` and ``id``."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    fields: dict[str, Any] = {}
    columns: dict[str, None] = {}
    for served in models.values():
        columns |= dict.fromkeys(served.columns)
        for name, section in served.sections.items():
            if isinstance(section, PixelConfig):
                what = f"{section.kind.capitalize()}: one file, DICOM files of one series, or a zip of these."
                fields[name] = {**files, "description": what}
            if isinstance(section, ImageConfig) and section.mask:
                fields[section.mask] = {**files, "description": f"Mask that chooses the plane of '{name}'."}
    if columns:
        value = {"type": ["number", "string", "boolean", "null"]}
        fields["table"] = {
            "type": "object",
            "description": "JSON: column -> value.",
            "properties": dict.fromkeys(columns, value),
            "additionalProperties": False,
        }
    fields["id"] = {"type": "string", "maxLength": 256, "description": "Name of the study in the answer; never logged."}
    schema = {"type": "object", "properties": fields, "minProperties": 1, "additionalProperties": False}
    encoding = {"table": {"contentType": "application/json"}} if columns else {}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema, "encoding": encoding}}}
    }
