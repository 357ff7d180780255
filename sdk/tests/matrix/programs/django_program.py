"""Django under OpenTelemetry's instrumentation: synchronous and asynchronous views, by WSGI and by ASGI, errors."""

import asyncio

import django
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor

tracer = trace.get_tracer("program")


def item(request, number):
    with tracer.start_as_current_span("look up", attributes={"number": number}):
        return HttpResponse(f"item {number}")


async def later(request):
    with tracer.start_as_current_span("waits"):
        await asyncio.sleep(0)
    return HttpResponse("later")


def forbidden(request):
    raise PermissionDenied


def broken(request):
    raise ValueError("boom")


def stream(request):
    return StreamingHttpResponse(iter(("a", "b")))


urlpatterns = [
    path("items/<int:number>/", item),
    path("later/", later),
    path("forbidden/", forbidden),
    path("broken/", broken),
    path("stream/", stream),
]
PATHS = ("/items/3/?q=1", "/items/x/", "/later/", "/forbidden/", "/broken/", "/stream/", "/nowhere/")


def main():
    settings.configure(ROOT_URLCONF="program", ALLOWED_HOSTS=["*"], SECRET_KEY="x", LOGGING_CONFIG=None)
    DjangoInstrumentor().instrument()
    django.setup()
    client = Client(raise_request_exception=False)
    answers = []
    for address in PATHS:
        response = client.get(address)
        body = response.getvalue()
        answers.append([address, response.status_code, len(body)])
    answers += asyncio.run(asynchronous())
    return answers


async def asynchronous():
    client = AsyncClient(raise_request_exception=False)
    return [[address, (await client.get(address)).status_code] for address in PATHS if address != "/stream/"]
