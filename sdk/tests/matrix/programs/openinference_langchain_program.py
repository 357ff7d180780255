"""OpenInference's LangChain instrumentation: a chain, a stream, an agent of LangGraph with a tool, an error."""

from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry import trace

tracer = trace.get_tracer("program")


@tool
def look_up(order: int) -> str:
    """Where an order is."""
    with tracer.start_as_current_span("query", attributes={"order": order}):
        return "on its way"


def main():
    LangChainInstrumentor().instrument()
    model = ChatOpenAI(model="gpt-5", temperature=0)
    chain = ChatPromptTemplate.from_template("Answer: {question}") | model | StrOutputParser()
    with tracer.start_as_current_span("request"):
        answers = [chain.invoke({"question": "How long?"})]
        answers.append("".join(chain.stream({"question": "How long?"})))
        agent = create_agent(model, [look_up])
        answers.append(agent.invoke({"messages": [("user", "Where is order 7?")]})["messages"][-1].content)
        try:
            ChatOpenAI(model="missing", max_retries=0).invoke("x")
        except Exception as error:
            answers.append(type(error).__name__)
    return answers
