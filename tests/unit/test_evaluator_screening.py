"""What leaves for a provider: allowed parameters, texts and images, and no address inside a network."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.write.evaluator.providers.provider import ModelRequest, PermanentError
from services.write.evaluator.providers.screening import Images, check_request, url_refusal

PNG = "data:image/png;base64,iVBORw0KGgo="


def question(content: Any, *, settings: dict[str, Any] | None = None, **message: Any) -> ModelRequest:
    return ModelRequest(model="m", messages=[{"role": "user", "content": content, **message}], settings=settings or {})


def image(url: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url, **more}}]


@pytest.mark.parametrize(
    "model_request",
    [
        question("hello"),
        question(None, role="assistant", tool_calls=[]),
        question([{"type": "text", "text": "hello"}], name="ada"),
        question(image(PNG, detail="low"), settings={"temperature": 0}),
    ],
)
def test_what_is_sent(model_request: ModelRequest) -> None:
    check_request(model_request, kind="openai", images="inline")


@pytest.mark.parametrize(
    ("model_request", "reason"),
    [
        (question("x", settings={"api_base": "http://h"}), "settings.api_base: is not for a run to set"),
        (question("x", settings={"latency_seconds": 0}), "settings.latency_seconds: is not for a run to set"),
        (question("x", role="root"), "messages[0].role: is not one of"),
        (question("x", mm_processor_kwargs={}), "messages[0].mm_processor_kwargs: is not sent"),
        (question(7), "messages[0].content: is neither a text nor a list of parts"),
        (question(["x"]), "messages[0].content[0].type: None is not sent"),
        (question([{"type": "file", "file": {"file_id": "f"}}]), "messages[0].content[0].type: 'file' is not sent"),
        (question([{"type": "video_url", "video_url": {"url": PNG}}]), "messages[0].content[0].type: 'video_url'"),
        (question([{"type": "text", "text": {}}]), "messages[0].content[0].text: is not a text"),
        (question(image(None)), "messages[0].content[1].image_url.url: is not a text"),
        (question(image(PNG, detail="all")), "messages[0].content[1].image_url.detail: is not one of"),
        (question(image(PNG, headers={})), "messages[0].content[1].image_url.headers: is not sent"),
        (question(image("data:text/html;base64,aGk=")), "messages[0].content[1].image_url.url: is not a PNG"),
        (question(image("DATA:image/svg+xml;base64,aGk=")), "messages[0].content[1].image_url.url: is not a PNG"),
        (question(image("https://images.acme.com/a.png")), "images of other hosts are not sent to this provider"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_sent_is_named(model_request: ModelRequest, reason: str) -> None:
    with pytest.raises(PermanentError) as refused:
        check_request(model_request, kind="openai", images="inline")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["https://images.acme.com/a.png?size=2#x", "http://acme.com", "https://ACME.com./a", "https://xn--bcher-kva.example.com:443/"],
)  # fmt: skip
def test_images_of_public_hosts_are_sent_where_the_operator_says_so(url: str) -> None:
    assert not url_refusal(url, "public")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.1.1", "172.16.0.1", "0.0.0.0", "8.8.8.8",
        "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.1", "127.0.1", "169.254.43518", "0",
        "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1]", "[fd00:ec2::254]", "[2001:4860:4860::8888]",
        "127.0.0.1.", "acme.com.0x7f", "localhost", "localhost.", "foo.localhost", "metadata",
        "metadata.google.internal",
        "kubernetes.default.svc.cluster.local", "redis.default.svc", "router.lan", "printer.local", "a.home.arpa",
        "169.254.169.254.nip.io", "10-0-0-1.sslip.io", "localtest.me", "x.localtest.me", "acme..com", "-a.com", "",
        "acme.com%00.evil.com", "\uff11\uff12\uff17.0.0.1", "①②⑦.⓪.⓪.①", "acme.com\\@127.0.0.1", "b\u00fccher.com",
        "127.0.0.1\t", "user@acme.com", "user:secret@acme.com", "acme.com:8080", "acme.com:99999", "acme.com:x",
    ],
)  # fmt: skip
def test_no_address_in_any_notation_and_no_name_of_one_network_is_fetched(host: str) -> None:
    assert url_refusal(f"http://{host}/latest/meta-data", "public")
    assert url_refusal(f"https://{host}", "public")


@pytest.mark.parametrize(
    "url", ["ftp://acme.com/a", "file:///etc/passwd", "//acme.com/a", "acme.com/a", "gopher://a.com"]
)
def test_only_http_is_fetched(url: str) -> None:
    assert url_refusal(url, "public") == "is neither https nor http"


def test_hosts_that_are_listed_are_the_only_ones() -> None:
    listed: Images = ("images.internal", "cdn.acme.com")
    assert not url_refusal("http://images.internal/a.png", listed)
    for url in ("https://acme.com/a", "https://x.cdn.acme.com/a", "https://cdn.acme.com:8080/a", "http://127.0.0.1/"):
        assert url_refusal(url, listed) == "only images of images.internal, cdn.acme.com are sent"


@given(address=st.ip_addresses(v=4), form=st.sampled_from(["dotted", "number", "hex", "octal", "short"]))
def test_every_ipv4_address_is_refused_in_every_notation(address: Any, form: str) -> None:
    number, (first, *_) = int(address), address.packed
    written = {
        "dotted": str(address), "number": str(number), "hex": hex(number), "octal": f"0{number:o}",
        "short": f"{first}.{number & 0xFFFFFF}",
    }[form]  # fmt: skip
    assert url_refusal(f"http://{written}/", "public")


@given(address=st.ip_addresses(v=6))
def test_every_ipv6_address_is_refused(address: Any) -> None:
    for written in (str(address), address.exploded):
        assert url_refusal(f"http://[{written}]/", "public")
