"""Keys: mistyped ones are told offline, headers are read strictly."""

import base64
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.write.gateway.first_key import WeakSecretError, check_secret
from shared.auth.authentication import UnauthenticatedError, credentials
from shared.auth.keys import SECRET_PREFIX, hash_secret, is_mistyped, make_secret
from shared.runtime.settings import InitSettings

ALPHABET = string.digits + string.ascii_letters


def test_a_new_secret_is_not_mistyped_and_never_the_same() -> None:
    secrets = {make_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(secret.startswith(SECRET_PREFIX) and not is_mistyped(secret) for secret in secrets)


@given(st.integers(0, 37), st.sampled_from(ALPHABET))
def test_any_one_wrong_character_is_told(place: int, wrong: str) -> None:
    secret = make_secret()
    place += len(SECRET_PREFIX)
    typed = secret[:place] + wrong + secret[place + 1 :]
    assert is_mistyped(typed) == (typed != secret)


@pytest.mark.parametrize("secret", ["sk-ls-local", "sk-lf-1234", "anything", "", "sk-ls-" + "é" * 38])
def test_a_secret_that_others_chose_may_be_any_string(secret: str) -> None:
    hash_secret(secret)
    assert is_mistyped(secret) == (len(secret) == 44)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("x", "it has 1 characters; at least 32 are asked for"),
        ("sk-ls-local", "it has 11 characters; at least 32 are asked for"),
        ("a" * 64, "it has 1 different characters; at least 9 are asked for"),
        ("abc" * 20, "it has 3 different characters; at least 9 are asked for"),
        ("8f2a0c7be19d44563fa1c08e7d92b645", None),
        ("sk-lf-0c7be19d-4456-4fa1-8c08-e7d92b645123", None),
        pytest.param(make_secret(), None, id="made by us"),
    ],
)
def test_a_secret_that_can_be_guessed_is_taken_on_this_machine_only(secret: str, why: str | None) -> None:
    init = InitSettings(project_id="p", public_key="pk", secret_key=SecretStr(secret))
    for host in ("127.0.0.1", "::1", "localhost", "127.3.2.1"):
        check_secret(init, host)
    for host in ("0.0.0.0", "::", "192.0.2.1", "gateway.example"):
        if why is None:
            check_secret(init, host)
            continue
        with pytest.raises(WeakSecretError, match=f"LODESTREAM_INIT_SECRET_KEY .* {re.escape(host)}: {why}"):
            check_secret(init, host)
        check_secret(init.model_copy(update={"weak_secret_allowed": True}), host)
    check_secret(InitSettings(), "0.0.0.0")


def test_bearer_and_basic_are_read_whatever_the_case_of_the_scheme() -> None:
    basic = base64.b64encode(b"pk:sk:with:colons").decode()
    assert credentials("Bearer sk") == credentials("bearer  sk ") == (None, "sk")
    assert credentials(f"Basic {basic}") == credentials(f"BASIC {basic}") == ("pk", "sk:with:colons")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Token x",
        "Basic",
        "Basic ###",
        "Basic cGs=",
        "Basic cGs6",
        "Basic OnNr",
        "Basic //8=",
        "Bearer " + "x" * 5000,
        "\x00 \x00",
        "sk-ls-alone",
    ],
)
def test_what_is_no_key_is_refused(header: str | None) -> None:
    with pytest.raises(UnauthenticatedError):
        credentials(header)


@given(st.text(max_size=200))
def test_no_header_does_anything_but_be_read_or_refused(header: str) -> None:
    try:
        _, secret = credentials(header)
    except UnauthenticatedError:
        return
    assert secret
