"""An agent of LangGraph with two tools, traced; it needs no key, as the model is the mock one of `make up`.

    make up                                                      # in another terminal
    .venv/bin/python -m pip install langchain langchain-openai langgraph
    .venv/bin/python examples/langgraph_agent.py

The agent is asked where an order is and how long a refund takes, calls a tool for each, and
answers with what those say. With OPENAI_BASE_URL and OPENAI_API_KEY set it asks another model.
"""

import os

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from lodestream import get_client, observe
from lodestream.langchain import CallbackHandler

ORDERS = {7: "Order 7 left the warehouse this morning."}
ARTICLES = ["A refund takes up to 14 days.", "Returned goods are free of charge."]


def look_up_order(number: int) -> str:
    """Say where an order is, by its number."""
    return query_orders(number)


def search_articles(text: str) -> str:
    """Search the help pages about refunds and returned goods."""
    words = {word.strip("?,.").lower() for word in text.split()}
    return max(ARTICLES, key=lambda article: len(words & set(article.lower().split())))


@observe
def query_orders(number: int) -> str:
    """What the tool does becomes a child of its observation."""
    return ORDERS.get(number, f"There is no order {number}.")


def main() -> str:
    """Ask the agent, and return its answer."""
    model = ChatOpenAI(
        model=os.environ.get("MODEL", "mock-large"),
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:4320/v1"),
        api_key=lambda: os.environ.get("OPENAI_API_KEY", "none"),
    )
    agent = create_agent(model, [tool(look_up_order), tool(search_articles)], name="support")
    answer = agent.invoke(
        {"messages": [("user", "Where is order 7, and how long does a refund take?")]},
        config={
            "callbacks": [CallbackHandler()],
            "metadata": {"lodestream_user_id": "ada", "lodestream_session_id": "chat-7"},
        },
    )
    return str(answer["messages"][-1].content)


if __name__ == "__main__":
    print(main())
    print(get_client().flush())
