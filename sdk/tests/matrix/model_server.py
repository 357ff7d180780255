"""A model provider in this process that answers the same to the same request, like OpenAI and Anthropic."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
_WORDS = ("It ", "takes ", "14 days.")


class ModelServer:
    """`address` takes `/v1/chat/completions`, `/v1/embeddings`, `/v1/responses` and `/v1/messages`.

    Bedrock's `converse` and Google's `generateContent` too.
    """

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"path": self.path.partition("?")[0]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if asked.get("model") == "missing":
            self._answer(404, {"error": {"message": "no such model", "type": "not_found", "code": "model_not_found"}})
        elif asked.get("stream"):
            streams = {"responses": _response_events}
            self._stream(streams.get(self.path.rpartition("/")[2], _chunks)(asked))
        else:
            answers = {
                "converse": _bedrock,
                "embeddings": _embedding,
                "gemini:generateContent": _google,
                "generations": _image,
                "messages": _message,
                "responses": _response,
            }
            self._answer(200, answers.get(self.path.rpartition("/")[2], _completion)(asked))

    def _answer(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, chunks: Iterator[Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        return "Mon, 30 Nov 2026 12:00:00 GMT"

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _completion(asked: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(_WORDS)}
    reason = "stop"
    if asked.get("tools") and asked["messages"][-1]["role"] != "tool":
        name = asked["tools"][0]["function"]["name"]
        call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": '{"order": 7}'}}
        message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    elif asked.get("response_format", {}).get("type") == "json_schema":
        message["content"] = '{"days": 14}'
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice],
        "usage": _USAGE,
    }  # fmt: skip


def _chunks(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
    reason = "stop"
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": word} for word in _WORDS]
    if asked.get("tools") and asked["messages"][-1]["role"] != "tool":
        name, reason = asked["tools"][0]["function"]["name"], "tool_calls"
        begin = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
        deltas = [{"role": "assistant", "content": None, "tool_calls": [begin]}]
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": each}}]} for each in ('{"order"', ": 7}")]
    for delta in deltas:
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    yield {**head, "choices": [], "usage": _USAGE}


def _response_events(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    response = _response(asked)
    (item,) = response["output"]
    yield {
        "type": "response.created",
        "sequence_number": 0,
        "response": {**response, "status": "in_progress", "output": [], "usage": None},
    }
    yield {
        "type": "response.output_item.added",
        "sequence_number": 1,
        "output_index": 0,
        "item": {**item, "status": "in_progress", "content": []},
    }
    part = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": []}
    yield {"type": "response.content_part.added", "sequence_number": 2, **part, "part": empty}
    for number, word in enumerate(_WORDS, 3):
        yield {"type": "response.output_text.delta", "sequence_number": number, **part, "delta": word, "logprobs": []}
    yield {"type": "response.completed", "sequence_number": 6, "response": response}


def _image(asked: dict[str, Any]) -> dict[str, Any]:
    details = {"text_tokens": 9, "image_tokens": 0}
    usage = {"input_tokens": 9, "output_tokens": 200, "total_tokens": 209, "input_tokens_details": details}
    return {
        "created": 1,
        "data": [{"b64_json": 4_000 * "A"}],
        "size": "1024x1024",
        "output_format": "png",
        "usage": usage,
    }


def _bedrock(_asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": "".join(_WORDS)}]}}, "stopReason": "end_turn",
        "usage": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}, "metrics": {"latencyMs": 1},
    }  # fmt: skip


def _google(_asked: dict[str, Any]) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": "".join(_WORDS)}]}
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}
    return {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}


def _embedding(asked: dict[str, Any]) -> dict[str, Any]:
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    data = [{"object": "embedding", "index": number, "embedding": [0.5, 0.25]} for number in range(len(texts))]
    return {"object": "list", "data": data, "model": asked["model"], "usage": {"prompt_tokens": 4, "total_tokens": 4}}


def _message(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "stop_reason": "end_turn",
        "stop_sequence": None, "content": [{"type": "text", "text": "".join(_WORDS)}],
        "usage": {"input_tokens": 9, "output_tokens": 3},
    }  # fmt: skip


def _response(asked: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "output_text", "text": "".join(_WORDS), "annotations": []}
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": asked["model"],
        "output": [{"type": "message", "id": "m_1", "status": "completed", "role": "assistant", "content": [text]}],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}, "temperature": 1.0,
        "top_p": 1.0, "error": None, "incomplete_details": None, "instructions": None,
        "usage": {
            "input_tokens": 9, "output_tokens": 3, "total_tokens": 12, "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 1},
        },
    }  # fmt: skip
