"""The addresses of a server: pictures in and out, models, health, figures, pages."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from loguru import logger
from starlette.requests import ClientDisconnect

from clapp import __version__
from clapp.errors import UserError, one_line
from clapp.filters.learned.settings import Values
from clapp.inference.adjusted import parse_values
from clapp.inference.serve.answers import FILES, RESPONSES, Model, Problem, Setting, State
from clapp.inference.serve.desk import Deadline, Desk
from clapp.inference.serve.limits import Limits
from clapp.inference.serve.metrics import Metrics, Watch
from clapp.inference.serve.models import OPTION, Served
from clapp.inference.serve.pictures import (
    Picture,
    Shape,
    accepted,
    load_codecs,
    read_file,
    read_raw,
    write,
)
from clapp.inference.serve.refused import RefusedError, answer_errors

_PAGE = Path(__file__).parent / "page"


class What(StrEnum):
    """What is asked for: the model's picture, or that of the classical filter it stands for."""

    MODEL = "apply"
    FILTER = "filter"


_Side = Annotated[int | None, Query(ge=1, description="Of raw pixels.")]


class Service:
    """What all addresses of a server share."""

    def __init__(self, models: dict[str, Served], limits: Limits) -> None:
        self.models = models
        self.limits = limits
        self.desk = Desk(limits.workers, limits.queue)
        self.metrics = Metrics(self.desk)
        self.warm: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Warm up while the server listens already."""
        self.warm = asyncio.create_task(self._warm_up())
        yield
        self.warm.cancel()
        self.desk.close()

    async def _warm_up(self) -> None:
        await asyncio.to_thread(load_codecs)
        for model in self.models.values():
            if problem := await asyncio.to_thread(model.warm_up):
                logger.warning(f"{model.name}: {problem}")

    async def answer(
        self, request: Request, name: str, what: What, shape: Shape | None, values: Values
    ) -> Response:
        """A picture for a picture, counted.

        Raises:
            RefusedError: there is none.
        """
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        known = name if name in self.models else "unknown"
        try:
            response = await self._answer(request, name, what, shape, values)
            status = HTTPStatus.OK
        except RefusedError as refused:
            status = refused.status
            raise
        finally:
            self.metrics.answered(known, what.value, status)
        return response

    async def _answer(
        self, request: Request, name: str, what: What, shape: Shape | None, values: Values
    ) -> Response:
        if name not in self.models:
            known = ", ".join(self.models)
            raise RefusedError(HTTPStatus.NOT_FOUND, f"there is no model {name!r}; known: {known}")
        media = accepted(request.headers.get("accept"))
        self._check_length(request)
        watch = self.metrics.watch(name)
        model = self.models[name]
        do = partial(model.apply if what is What.MODEL else model.classical, values=values)
        work = partial(_work, do, what, shape, media, self.limits, watch)
        with self.desk.place() as place:
            content = await self._body(request)
            gone = asyncio.ensure_future(request.receive())
            try:
                with watch.step("total"):
                    body, sizes = await place.do(partial(work, content), self.limits.seconds, gone)
            finally:
                gone.cancel()
        self.metrics.filtered(name, sizes.height * sizes.width)
        return Response(
            body,
            media_type=media,
            headers={
                "X-Height": str(sizes.height),
                "X-Width": str(sizes.width),
                "X-Channels": str(sizes.channels),
                "Server-Timing": watch.header(),
            },
        )

    def _check_length(self, request: Request) -> None:
        """Refuse a body that says itself that it is too large, before it is read."""
        length = request.headers.get("content-length", "0")  # digits, as h11 has checked
        if int(length) > self.limits.body:
            raise self._too_large()

    def _too_large(self) -> RefusedError:
        message = f"the body has more than the {self.limits.body} bytes that are allowed"
        return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)

    async def _body(self, request: Request) -> bytes:
        content = bytearray()
        try:
            async with asyncio.timeout(self.limits.transfer):
                async for part in request.stream():
                    content += part
                    if len(content) > self.limits.body:
                        raise self._too_large()
        except TimeoutError as error:
            message = f"the body did not arrive within {self.limits.transfer:g} seconds"
            raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, message, Connection="close") from error
        except ClientDisconnect as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the client went away") from error
        return bytes(content)


def _work(
    do: Callable[[Picture, Deadline], Picture],
    what: What,
    shape: Shape | None,
    media: str,
    limits: Limits,
    watch: Watch,
    content: bytes,
    deadline: Deadline,
) -> tuple[bytes, Shape]:
    """What a thread does for a request."""
    deadline.check()
    with watch.step("decode"):
        if shape is None:
            picture = read_file(content, limits.pixels)
        else:
            picture = read_raw(content, shape, limits.pixels)
    deadline.check()
    found: Picture
    with watch.step(what.value):
        found = do(picture, deadline)
    deadline.check()
    with watch.step("encode"):
        body = write(found, media)
    channels = 1 if found.ndim == 2 else found.shape[2]
    return body, Shape(found.shape[0], found.shape[1], channels)


def build(models: dict[str, Served], limits: Limits) -> FastAPI:
    """The ASGI application for models by name, within limits."""
    service = Service(models, limits)
    app = FastAPIOffline(
        redoc_url=None,
        title="CLAPP",
        version=__version__,
        description="Small networks that stand in for classical filters: a picture for a picture.",
        lifespan=service.lifespan,
    )
    answer_errors(app)
    _add_pictures(app, service)
    _add_states(app, service)
    app.mount("/", StaticFiles(directory=_PAGE, html=True), name="page")
    return app


def _add_pictures(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models")
    async def models() -> list[Model]:
        """The models of this server."""
        return [
            Model(
                name=name,
                filter=model.filter_name or "",
                channels=model.channels,
                settings=[Setting(**setting._asdict()) for setting in model.settings],
            )
            for name, model in service.models.items()
        ]

    @app.post(
        "/v1/models/{name}/{what}",
        response_class=Response,
        responses=RESPONSES,
        openapi_extra={"requestBody": {"required": True, "content": FILES}},
    )
    async def picture(
        request: Request,
        name: str,
        what: What,
        width: _Side = None,
        height: _Side = None,
        channels: Annotated[Literal["1", "3"], Query(description="Of raw pixels.")] = "3",
        set_: Annotated[
            list[str] | None,
            Query(alias="set", description="NAME=VALUE of a setting of the model; repeatable."),
        ] = None,
    ) -> Response:
        """A picture for a picture: `apply` is the model, `filter` the classical filter.

        The body is a PNG or JPEG file, or, with `width` and `height`, raw pixels: rows of uint8,
        channel by channel in each pixel. `Accept` says what comes back: PNG, unless it is
        `image/jpeg` or, for raw pixels, `application/octet-stream`.
        """
        if (width is None) != (height is None):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "raw pixels need both width and height")
        raw = None if width is None or height is None else Shape(height, width, int(channels))
        try:
            values = parse_values(set_ or (), OPTION)
        except UserError as error:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, one_line(error)) from error
        return await service.answer(request, name, what, raw, values)


def _add_states(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> State:
        """Whether the server answers."""
        return State(status="ok")

    @app.get("/ready", responses={503: {"model": Problem, "description": "Not yet."}})
    async def ready() -> State:
        """Whether every model has been applied once, so that none is slow at first."""
        warm = service.warm
        if warm is None or not warm.done():
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "the models are being warmed up")
        if error := warm.exception():
            message = f"a model cannot be applied: {one_line(error)}"
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, message)
        return State(status="ready")

    @app.get("/metrics")
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.metrics.page(), media_type="text/plain; version=0.0.4")
