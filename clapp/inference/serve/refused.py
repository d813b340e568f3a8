"""What a server answers where it gives no picture: a status and one sentence."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from clapp.errors import ClappError


class RefusedError(ClappError):
    """A request that is not fulfilled.

    Attributes:
        status: of HTTP.
        headers: of the answer.
    """

    def __init__(self, status: HTTPStatus, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def answer_errors(app: FastAPI) -> None:
    """Every error as `{"error": "one sentence"}`."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        text = f"{place}: {first['msg']}"
        return JSONResponse({"error": text}, HTTPStatus.UNPROCESSABLE_ENTITY)

    @app.exception_handler(Exception)
    async def defect(_: Request, __: Exception) -> JSONResponse:
        text = "a defect of CLAPP; the server's log says more"
        return JSONResponse({"error": text}, HTTPStatus.INTERNAL_SERVER_ERROR)
