"""OpenInference's LlamaIndex instrumentation: a completion, a chat, a stream."""

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry import trace

tracer = trace.get_tracer("program")


def main():
    LlamaIndexInstrumentor().instrument()
    model = OpenAI(model="gpt-4o", max_retries=0, temperature=0)
    with tracer.start_as_current_span("request"):
        answers = [str(model.chat([ChatMessage(role="user", content="How long?")]).message.content)]
        answers.append("".join(part.delta or "" for part in model.stream_chat([ChatMessage(content="How long?")])))
        answers.append(str(model.complete("How long?")))
    return answers
