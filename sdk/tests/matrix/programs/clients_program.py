"""httpx and requests, threads and executors, asyncio and logging under OpenTelemetry's instrumentation."""

import asyncio
import io
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import requests
from opentelemetry import trace
from opentelemetry.instrumentation.asyncio import AsyncioInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.logging import LoggingInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor

tracer = trace.get_tracer("program")
SERVER = os.environ["MODEL_SERVER"]


def work(name):
    tracer.start_span(name).end()


async def tasks():
    async def step():
        with tracer.start_as_current_span("step"):
            await asyncio.sleep(0)

    with tracer.start_as_current_span("tasks"):
        await asyncio.gather(step(), asyncio.to_thread(work, "in a thread"))
        async with httpx.AsyncClient() as client:
            return [(await client.get(f"{SERVER}/async")).status_code]


def main():
    os.environ["OTEL_PYTHON_ASYNCIO_COROUTINE_NAMES_TO_TRACE"] = "step"
    for instrumentor in (
        AsyncioInstrumentor,
        HTTPXClientInstrumentor,
        RequestsInstrumentor,
        ThreadingInstrumentor,
    ):
        instrumentor().instrument()
    LoggingInstrumentor().instrument(inject_trace_context=True)
    logged = io.StringIO()
    handler = logging.StreamHandler(logged)
    handler.setFormatter(logging.Formatter("%(otelServiceName)s %(otelTraceSampled)s %(message)s"))
    logging.getLogger("program").addHandler(handler)
    answers = []
    with tracer.start_as_current_span("calls"):
        answers.append(httpx.get(f"{SERVER}/sync?q=1").json())
        answers.append(requests.get(f"{SERVER}/requests", timeout=5).status_code)
        for get in (httpx.get, requests.get):
            try:
                get("http://127.0.0.1:1/")
            except (httpx.HTTPError, requests.RequestException) as error:
                answers.append(type(error).__name__)
        thread = threading.Thread(target=work, args=("a thread",))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work, "an executor").result()
        logging.getLogger("program").warning("logged")
    answers += asyncio.run(tasks())
    return [*answers, logged.getvalue()]
