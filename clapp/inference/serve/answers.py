"""What a server answers beside pictures, as its description (`/docs`) has it."""

from typing import Any

from pydantic import BaseModel

from clapp.inference.serve.pictures import JPEG, PNG, RAW

_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
FILES = dict.fromkeys((PNG, JPEG, RAW), _BINARY)


class Setting(BaseModel):
    """A parameter of the filter that a model takes beside the picture.

    Attributes:
        step: 1: whole numbers; 2: every other one from `low` on; 0: any number.
    """

    name: str
    low: float
    high: float
    step: int


class Model(BaseModel):
    """A model of this server.

    Attributes:
        filter: the classical filter; empty: not known here.
        channels: of its pictures, 1 or 3.
        settings: what a request has to give a value of, by `set=NAME=VALUE`.
    """

    name: str
    filter: str
    channels: int
    settings: list[Setting]


class State(BaseModel):
    """Whether a server works."""

    status: str


class Problem(BaseModel):
    """Why there is no picture, in one sentence."""

    error: str


_STATUSES = {
    400: "Not a picture that can be read.",
    404: "No such model, or no classical filter.",
    406: "No media type that is accepted can be given.",
    408: "The body did not arrive in time.",
    413: "Too many bytes or pixels.",
    415: "Neither PNG nor JPEG.",
    422: "The model, the filter or a parameter does not fit.",
    429: "All places are taken; Retry-After says when to try again.",
    504: "No answer in time.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture, of the same size.", "content": FILES},
    **{code: {"model": Problem, "description": text} for code, text in _STATUSES.items()},
}
