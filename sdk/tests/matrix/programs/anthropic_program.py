"""OpenInference's Anthropic instrumentation: a message, an error, async."""

import anthropic
from openinference.instrumentation.anthropic import AnthropicInstrumentor
from opentelemetry import trace

tracer = trace.get_tracer("program")
ASKED = {"max_tokens": 9, "messages": [{"role": "user", "content": "How long?"}]}


async def main():
    AnthropicInstrumentor().instrument()
    client = anthropic.Anthropic(max_retries=0)
    answers = []
    with tracer.start_as_current_span("request"):
        answers.append(client.messages.create(model="claude", **ASKED).content[0].text)
        try:
            client.messages.create(model="missing", **ASKED)
        except anthropic.NotFoundError as error:
            answers.append(error.status_code)
        async with anthropic.AsyncAnthropic(max_retries=0) as asynchronous:
            answers.append((await asynchronous.messages.create(model="claude", **ASKED)).content[0].text)
    return answers
