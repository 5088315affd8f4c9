"""A Milvus that is none: it says what version it is, keeps what it is asked and finds nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc


class FakeMilvus(milvus_pb2_grpc.MilvusServiceServicer):
    """For what no server at hand shows: other versions, GPU builds, the shape of requests (kept in `searches`)."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.searches: list[milvus_pb2.SearchRequest] = []
        self.server = grpc.server(ThreadPoolExecutor(2))
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(self, self.server)
        self.uri = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def __enter__(self) -> FakeMilvus:
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.stop(None)

    def Connect(self, request, context):  # noqa: N802
        return milvus_pb2.ConnectResponse(server_info={"build_tags": self.version})

    def GetVersion(self, request, context):  # noqa: N802
        return milvus_pb2.GetVersionResponse(version=self.version)

    def Search(self, request, context):  # noqa: N802
        self.searches.append(request)
        return milvus_pb2.SearchResults()
