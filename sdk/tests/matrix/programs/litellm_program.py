"""OpenInference's LiteLLM instrumentation: a completion, async, embeddings, an error."""

import litellm
from openinference.instrumentation.litellm import LiteLLMInstrumentor
from opentelemetry import trace

tracer = trace.get_tracer("program")
MESSAGES = [{"role": "user", "content": "How long?"}]


async def main():
    LiteLLMInstrumentor().instrument()
    answers = []
    with tracer.start_as_current_span("request"):
        answers.append(litellm.completion(model="openai/gpt-5", messages=MESSAGES).choices[0].message.content)
        answer = await litellm.acompletion(model="openai/gpt-5", messages=MESSAGES)
        answers.append(answer.choices[0].message.content)
        answers.append(len(litellm.embedding(model="openai/embed", input=["a"]).data))
        try:
            litellm.completion(model="openai/missing", messages=MESSAGES, num_retries=0, max_retries=0)
        except litellm.NotFoundError as error:
            answers.append(error.status_code)
    return answers
