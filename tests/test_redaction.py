"""No password of a storage's URL is ever shown, however it is written."""

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clapp.errors import UserError
from clapp.study.storage.redaction import redact, without_secrets
from clapp.study.storage.storage import open_storage

WORDS = st.text(st.sampled_from("aZ9:@/?#&=;%+ .'\"[]\\ü"), min_size=0, max_size=6)
"""What surrounds the secret in a password: everything that means something in a URL."""
SECRET = "Hunter2"
PLACES = (
    "postgresql+psycopg://ann:{}@127.0.0.1:1/x",
    "postgresql://:{}@127.0.0.1:1/x",
    "mysql+nothing://ann:{}@h/d",
    "postgresql+psycopg://ann@127.0.0.1:1/x?passwd={}",
    "postgresql+psycopg://ann@127.0.0.1:1/x?sslmode=disable&password={}",
    "postgresql+psycopg://127.0.0.1:1/x?user=ann;pwd={}",
    "nonsense:{}@x",
    "grpc://ann:{}@127.0.0.1:1",
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), WORDS, WORDS, st.booleans())
def test_a_url_is_shown_without_its_secret(
    place: str, before: str, after: str, quoted: bool
) -> None:
    password = before + SECRET + after
    url = place.format(quote(password, safe="") if quoted else password)
    assert SECRET not in redact(url)
    for said in (url, f'cannot log in with "{password}"', f"password={quote(password)}: no"):
        assert SECRET not in without_secrets(said, url)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([place for place in PLACES if "grpc" not in place]), WORDS, WORDS)
def test_no_error_names_it(place: str, before: str, after: str) -> None:
    with pytest.raises(UserError) as caught:
        open_storage(place.format(before + SECRET + after), create=False).get_all_studies()
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
