"""Celery under OpenTelemetry's instrumentation: a worker in this process, a chain, a failure, a retry."""

from celery import Celery, chain
from celery.contrib.testing.worker import start_worker
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor

tracer = trace.get_tracer("program")
app = Celery("program", broker="memory://", backend="cache+memory://")
app.conf.worker_hijack_root_logger = False


@app.task(name="add")
def add(a, b):
    with tracer.start_as_current_span("adding"):
        return a + b


@app.task(name="fail")
def fail():
    raise ValueError("boom")


@app.task(name="again", bind=True, max_retries=1)
def again(self):
    if not self.request.retries:
        raise self.retry(countdown=0)
    return "second time"


def main():
    CeleryInstrumentor().instrument()
    with start_worker(app, pool="solo", perform_ping_check=False), tracer.start_as_current_span("request"):
        answers = [add.delay(1, 2).get(timeout=20), chain(add.s(1, 2), add.s(3))().get(timeout=20)]
        answers.append(again.delay().get(timeout=20))
        answers.append(type(fail.delay().get(timeout=20, propagate=False)).__name__)
    return answers
