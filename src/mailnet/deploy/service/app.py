"""The application: routes, and what OpenAPI says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import mailnet
from mailnet.deploy.service.desk import Desk
from mailnet.deploy.service.guard import GONE, Guard
from mailnet.deploy.service.openapi import form, refusals
from mailnet.deploy.service.refusal import Refused
from mailnet.deploy.service.results import can_make_dicom
from mailnet.deploy.service.schemas import ExplainAnswer, Health, ModelsAnswer, PredictAnswer, PreviewAnswer
from mailnet.deploy.service.served import Served
from mailnet.deploy.service.settings import Settings

PAGE = Path(__file__).parent / "page"
# What a page is made of; said here, since what systems know of suffixes differs.
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
_STUDY = refusals(400, 401, 403, 404, 408, 413, 415, 421, 422, 503)
_ZIP = {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}
_SIMPLE = refusals(401, 403, 421)

ModelName = Annotated[str | None, Query(description="Name of the model; needed where there are several.")]


def create_app(models: Mapping[str, Served], settings: Settings) -> FastAPI:
    """Return the application.

    Args:
        models: Name -> model, see ``load_models``.
        settings: Limits, and who may ask.
    """
    desk = Desk(models, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        desk.open()
        yield
        desk.close()

    app = (FastAPI if settings.token is None else _WithToken)(
        title="mailnet",
        version=mailnet.__version__,
        summary="Multimodal medical image classification. For research use; not a medical device.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.desk = desk
    app.add_middleware(Guard, settings=settings, metrics=desk.metrics)
    _add_errors(app)
    _add_facts(app, desk)
    _add_studies(app, desk)
    _add_page(app)
    return app


def _add_facts(app: FastAPI, desk: Desk) -> None:
    @app.get("/healthz", response_model=Health, summary="Whether the service runs.", responses=refusals(403, 421))
    async def healthz() -> Any:
        return {"status": "ok"}

    @app.get("/metrics", summary="Counters for Prometheus.", response_class=Response,
             responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_SIMPLE})  # fmt: skip
    async def metrics() -> Response:
        return Response(desk.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", response_model=ModelsAnswer, response_model_exclude_unset=True, responses=_SIMPLE,
             summary="The models, what they take and what they answer.")  # fmt: skip
    async def models() -> Any:
        return {"models": [served.info() for served in desk.models.values()]}


def _add_studies(app: FastAPI, desk: Desk) -> None:
    body = form(desk.models)
    told: dict[str, Any] = {"responses": _STUDY, "openapi_extra": body, "dependencies": [Depends(_once)]}

    @app.post("/v1/predict", response_model=PredictAnswer, summary="Predict a study.", **told)
    async def predict(
        request: Request,
        model: ModelName = None,
        without: Annotated[bool, Query(description="Also answer with each modality left out.")] = False,
    ) -> Response:
        return JSONResponse(await desk.predict(request, model, without))

    @app.post("/v1/explain", response_model=ExplainAnswer, summary="Explain the answer to a study.", **told)
    async def explain(
        request: Request,
        model: ModelName = None,
        task: Annotated[str | None, Query(description="Default the model's first.")] = None,
        method: Annotated[str | None, Query(description="Default the first that the model's 'explains' names.")] = None,
        target: Annotated[str | None, Query(description="A class; default the one predicted.")] = None,
    ) -> Response:
        return _ready(await desk.explain(request, model, task, method, target))

    if can_make_dicom():

        @app.post("/v1/dicom", summary="Predict a study of DICOM files; a zip of DICOM results.",
                  response_class=Response, **{**told, "responses": {200: _ZIP, **_STUDY}})  # fmt: skip
        async def dicom(
            request: Request,
            model: ModelName = None,
            heatmap: Annotated[str | None, Query(description="none, sc, pm or both; default sc, where it can.")] = None,
        ) -> Response:
            return Response(await desk.dicom(request, model, heatmap), media_type="application/zip")

    @app.post("/v1/preview", response_model=PreviewAnswer, summary="The pixels of a study's files.", **told)
    async def preview(request: Request, model: ModelName = None) -> Response:
        return _ready(await desk.preview(request, model))


def _add_page(app: FastAPI) -> None:
    """Serve the files of the page that there are now, and no others: no path of a request is ever opened."""
    for path in sorted(PAGE.rglob("*")):
        if path.suffix in KINDS:
            answer = partial(_file, path)
            names = [path.relative_to(PAGE).as_posix()]
            for name in [*names, ""] if names == ["index.html"] else names:
                app.add_route(f"/{name}", answer, methods=["GET"], include_in_schema=False)


async def _once(request: Request) -> None:
    """Refuse a parameter that is given twice, of which one would be taken and the other left."""
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) < len(names):
        raise Refused(422, "a parameter is given twice", "Give each once; one request asks one model")


async def _file(path: Path, _: Request) -> Response:
    return FileResponse(path, media_type=KINDS[path.suffix])


def _ready(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        headers = {} if error.retry is None else {"Retry-After": str(error.retry)}
        return JSONResponse(error.as_dict(), error.status, headers)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        remedy = "See /openapi.json for what there is"
        return JSONResponse(
            Refused(error.status_code, str(error.detail), remedy).as_dict(), error.status_code, error.headers
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        refusal = Refused(422, f"the parameter '{name}' is wrong", str(first["msg"]))
        return JSONResponse(refusal.as_dict(), refusal.status)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=GONE)


class _WithToken(FastAPI):
    """An application whose document says that it wants a token."""

    def openapi(self) -> dict[str, Any]:
        described = super().openapi()
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in described["paths"].items():
            if path.startswith("/v1/") or path == "/metrics":
                for operation in methods.values():
                    operation["security"] = [{"token": []}]
        return described
