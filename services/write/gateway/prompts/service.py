"""PromptService: its commands and cached reads are answered here, all else is forwarded."""

from typing import Any

import grpc
from lodestream_proto.v1 import prompts_pb2

from services.write.gateway import proxy
from services.write.gateway.prompts.commands import KINDS
from services.write.gateway.prompts.writes import Writes

SERVICE = prompts_pb2.DESCRIPTOR.services_by_name["PromptService"]


def handlers(writes: Writes, query: grpc.aio.Channel) -> grpc.GenericRpcHandler:
    """Every method of the service, bytes to bytes."""
    ours: dict[str, Any] = {kind.rpc: grpc.stream_unary_rpc_method_handler(writes.method(kind)) for kind in KINDS}
    return grpc.method_handlers_generic_handler(
        SERVICE.full_name, {**proxy.forwarded(query, SERVICE, but=ours), **ours}
    )
