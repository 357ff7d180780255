"""Flask under OpenTelemetry's instrumentation: good and bad requests, a teardown, a stream."""

from flask import Flask, abort, stream_with_context
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor

tracer = trace.get_tracer("program")
app = Flask("program")


@app.get("/items/<int:item>")
def item(item):
    with tracer.start_as_current_span("look up", attributes={"item": item}):
        return {"item": item}


@app.get("/missing")
def missing():
    abort(404)


@app.get("/broken")
def broken():
    raise ValueError("boom")


@app.get("/stream")
def stream():
    def chunks():
        with tracer.start_as_current_span("streaming"):
            yield from ("a", "b")

    return stream_with_context(chunks())


def main():
    FlaskInstrumentor().instrument_app(app)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    client = app.test_client()
    answers = []
    for path in ("/items/3?q=1", "/items/x", "/missing", "/broken", "/stream", "/nowhere"):
        response = client.get(path)
        answers.append([path, response.status_code, response.text])
    return answers
