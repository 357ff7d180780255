"""Tests of `lodestream.instrument`, run by pytest in the environment of each library (`LIBRARY`) that it observes."""

import os

import lodestream
import pytest
from lodestream._instrument import LIBRARIES
from lodestream.testing import captured

LIBRARY, SERVER = os.environ["LIBRARY"], os.environ["MODEL_SERVER"]
ANSWER = "It takes 14 days."
MODEL = {"gen_ai.request.model", "llm.model_name", "lodestream.observation.model.name"}
MESSAGES = [{"role": "user", "content": "How long?"}]


def ask_anthropic():
    import anthropic

    with anthropic.Anthropic(max_retries=0) as client:
        return client.messages.create(model="claude", max_tokens=9, messages=MESSAGES).content[0].text


def ask_bedrock():
    import boto3

    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=SERVER,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    answer = client.converse(modelId="claude", messages=[{"role": "user", "content": [{"text": "How long?"}]}])
    return answer["output"]["message"]["content"][0]["text"]


def ask_google_genai():
    from google import genai

    client = genai.Client(api_key="sk", http_options={"base_url": SERVER})
    return client.models.generate_content(model="gemini", contents="How long?").text


def ask_langchain():
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-4o", base_url=f"{SERVER}/v1", api_key="sk").invoke("How long?").content


def ask_litellm():
    import litellm

    return litellm.completion(model="openai/gpt-4o", messages=MESSAGES).choices[0].message.content


def ask_llama_index():
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    return str(
        OpenAI(model="gpt-4o", max_retries=0).chat([ChatMessage(role="user", content="How long?")]).message.content
    )


def answers(recorded):
    """Spans that have the model's answer."""
    return [span for span in recorded.spans if any(ANSWER in str(value) for value in span.attributes.values())]


ask = globals()[f"ask_{LIBRARY}"]


@pytest.fixture
def recorded():
    with captured() as recorded:
        yield recorded
    lodestream.uninstrument(LIBRARY)


def test_calls_are_observed_once_below_what_is_current_until_it_is_undone(recorded):
    assert ask() == ANSWER
    assert not answers(recorded)
    recorded.spans.clear()  # Anthropic's client has spans of its own, without content
    lodestream.instrument(LIBRARY)
    lodestream.instrument(LIBRARY)
    with lodestream.get_client().start_as_current_observation(name="request"):
        assert ask() == ANSWER
    request = recorded.named("request")
    observed = [span for span in recorded.spans if span is not request]
    assert len([span for span in observed if span.parent_id == request.id]) == 1
    assert len([span for span in observed if span.attributes.keys() & MODEL]) == 1
    assert {span.trace_id for span in observed} == {request.trace_id}
    assert answers(recorded)
    lodestream.uninstrument(LIBRARY)
    lodestream.uninstrument(LIBRARY)
    recorded.spans.clear()
    assert ask() == ANSWER
    assert not answers(recorded)
    lodestream.instrument(LIBRARY)
    assert ask() == ANSWER
    assert answers(recorded)


def test_a_package_that_is_missing_is_named_and_nothing_is_observed(recorded):
    missing = "bedrock" if LIBRARY != "bedrock" else "anthropic"
    with pytest.raises(ImportError, match=rf"pip install 'openinference-instrumentation-{missing}>="):
        lodestream.instrument(LIBRARY, missing)
    assert ask() == ANSWER
    assert not answers(recorded)


@pytest.mark.skipif(LIBRARY == "langchain", reason="is observed by an integration of ours")
def test_a_version_of_the_library_that_the_package_does_not_observe_is_told(recorded, monkeypatch):
    instrumentor = LIBRARIES[LIBRARY]._instrumentor()
    monkeypatch.setattr(type(instrumentor), "instrumentation_dependencies", lambda self: ("pytest < 1",))
    with pytest.raises(ImportError, match="observes pytest < 1, and there is pytest"):
        lodestream.instrument(LIBRARY)


@pytest.mark.skipif(LIBRARY != "langchain", reason="is about langchain-openai")
def test_a_call_that_langchain_makes_with_openai_is_observed_once(recorded):
    import openai
    from lodestream.langchain import CallbackHandler

    lodestream.instrument("langchain", "openai")
    assert ask() == ANSWER
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="gpt-4o", base_url=f"{SERVER}/v1", api_key="sk")
    model.invoke("How long?", {"callbacks": [CallbackHandler()]})
    assert [span.name for span in recorded.spans] == ["ChatOpenAI", "ChatOpenAI"]
    with openai.OpenAI(base_url=f"{SERVER}/v1", api_key="sk") as client:
        for number, _ in enumerate(model.stream("How long?")):
            if number == 1:
                client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    lodestream.uninstrument("openai")
    assert sorted(span.name for span in recorded.spans) == ["ChatOpenAI", "ChatOpenAI", "ChatOpenAI", "chat gpt-4o"]
