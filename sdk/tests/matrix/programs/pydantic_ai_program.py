"""pydantic-ai's own OpenTelemetry spans: an agent with a tool, its answer, an error of the model."""

from opentelemetry import trace
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError

tracer = trace.get_tracer("program")


async def main():
    Agent.instrument_all()
    agent = Agent("openai-chat:gpt-5", name="support")

    @agent.tool_plain
    def look_up(order: int) -> str:
        with tracer.start_as_current_span("query", attributes={"order": order}):
            return "on its way"

    with tracer.start_as_current_span("request"):
        answers = [(await agent.run("Where is order 7?")).output]
        try:
            await Agent("openai-chat:missing", name="broken").run("x")
        except ModelHTTPError as error:
            answers.append(error.status_code)
    return answers
