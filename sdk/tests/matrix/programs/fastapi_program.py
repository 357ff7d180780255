"""FastAPI under OpenTelemetry's instrumentation: good and bad requests, a stream, a background task, a header."""

import asyncio

import httpx
from fastapi import BackgroundTasks, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

tracer = trace.get_tracer("program")
app = FastAPI()


@app.get("/items/{item}")
async def item(item: int) -> dict[str, int]:
    with tracer.start_as_current_span("look up", attributes={"item": item, "tags": ["a", "b"]}):
        return {"item": item}


@app.get("/sync")
def sync() -> str:
    with tracer.start_as_current_span("in a thread") as span:
        span.add_event("looked", {"n": 1})
        return "ok"


@app.get("/missing")
async def missing() -> None:
    raise HTTPException(404, "not here")


@app.get("/broken")
async def broken() -> None:
    with tracer.start_as_current_span("breaks"):
        raise ValueError("boom")


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def chunks():
        for number in range(3):
            await asyncio.sleep(0)
            yield f"{number}"

    return StreamingResponse(chunks())


@app.get("/later")
async def later(tasks: BackgroundTasks) -> str:
    def work() -> None:
        tracer.start_span("afterwards").end()

    tasks.add_task(work)
    return "later"


async def main():
    FastAPIInstrumentor.instrument_app(app)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    answers = []
    async with httpx.AsyncClient(transport=transport, base_url="http://program") as client:
        for path in ("/items/3?q=1", "/items/x", "/sync", "/missing", "/broken", "/stream", "/later", "/nowhere"):
            response = await client.get(path, headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
            answers.append([path, response.status_code, response.text])
    return answers
