"""Optuna's gRPC service, which is private but for its client and a server without a token.

Apart from `optuna_private` because it imports gRPC, which no other storage needs.
"""

from optuna.storages._grpc.auto_generated import api_pb2, api_pb2_grpc
from optuna.storages._grpc.client import GrpcClientCache
from optuna.storages._grpc.servicer import OptunaStorageProxyService

__all__ = ["GrpcClientCache", "OptunaStorageProxyService", "api_pb2", "api_pb2_grpc"]
