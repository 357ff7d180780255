"""OpenInference's OpenAI instrumentation: chat, a stream, tools, embeddings, responses, async, an error."""

import openai
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry import trace

tracer = trace.get_tracer("program")
MESSAGES = [{"role": "user", "content": "How long?"}]
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]


async def main():
    OpenAIInstrumentor().instrument()
    client = openai.OpenAI(max_retries=0)
    answers = []
    with tracer.start_as_current_span("request"):
        answers.append(client.chat.completions.create(model="gpt-5", messages=MESSAGES).choices[0].message.content)
        stream = client.chat.completions.create(
            model="gpt-5", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        answers.append([chunk.choices[0].delta.content for chunk in stream if chunk.choices])
        tool = client.chat.completions.create(model="gpt-5", messages=MESSAGES, tools=TOOLS)
        answers.append(tool.choices[0].message.tool_calls[0].function.arguments)
        answers.append(client.embeddings.create(model="embed", input=["a", "b"], encoding_format="float").data[1].index)
        answers.append(client.responses.create(model="gpt-5", input="How long?").output_text)
        try:
            client.chat.completions.create(model="missing", messages=MESSAGES)
        except openai.NotFoundError as error:
            answers.append(error.status_code)
        async with openai.AsyncOpenAI(max_retries=0) as asynchronous:
            answer = await asynchronous.chat.completions.create(model="gpt-5", messages=MESSAGES)
            answers.append(answer.choices[0].message.content)
    return answers
