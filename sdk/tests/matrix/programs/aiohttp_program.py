"""aiohttp's server and client under OpenTelemetry's instrumentation, in one trace over the wire."""

import asyncio
import socket

from aiohttp import ClientSession, web
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor

tracer = trace.get_tracer("program")


async def item(request):
    with tracer.start_as_current_span("look up"):
        await asyncio.sleep(0)
    return web.json_response({"item": request.match_info["item"]})


async def broken(request):
    raise ValueError("boom")


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for part in (b"a", b"b"):
        await response.write(part)
    return response


async def main():
    AioHttpServerInstrumentor().instrument()
    AioHttpClientInstrumentor().instrument()
    app = web.Application()
    app.add_routes([web.get("/items/{item}", item), web.get("/broken", broken), web.get("/stream", stream)])
    runner = web.AppRunner(app)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    await web.SockSite(runner, listening).start()
    answers = []
    async with ClientSession() as session:
        with tracer.start_as_current_span("calls"):
            for path in ("/items/3?q=1", "/broken", "/stream", "/nowhere"):
                async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                    answers.append([path, response.status, len(await response.read())])
            try:
                await session.get("http://127.0.0.1:1/")
            except OSError as error:
                answers.append(type(error).__name__)
    await runner.cleanup()
    return answers
