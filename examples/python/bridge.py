"""What the gRPC examples share: the way to the bridge, and how its errors are shown."""

import argparse
import os
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser that knows where the bridge is and who asks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--address",
        default=os.environ.get("SMSBRIDGE_ADDRESS", "http://127.0.0.1:50051"),
        help="the bridge's gRPC address; https for TLS (environment: SMSBRIDGE_ADDRESS)",
    )
    parser.add_argument(
        "--token",
        default=os.environ.get("SMSBRIDGE_TOKEN"),
        help="the bearer token (environment: SMSBRIDGE_TOKEN)",
    )
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds; default 30")
    return parser


def connect(args: argparse.Namespace) -> grpc.Channel:
    """A channel to the bridge."""
    scheme, _, authority = args.address.rpartition("://")
    if scheme == "https":
        return grpc.secure_channel(authority, grpc.ssl_channel_credentials())
    return grpc.insecure_channel(authority)


def metadata(args: argparse.Namespace) -> list[tuple[str, str]]:
    """The credentials, for every call."""
    return [("authorization", f"Bearer {args.token}")] if args.token else []


def explain(error: grpc.RpcError) -> str:
    """An error with its google.rpc details: the stable reason, each mistake, when to try again."""
    lines = [f"{error.code().name}: {error.details()}"]
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        mistakes = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            lines.append(f"  reason: {info.reason} {dict(info.metadata)}")
        elif detail.Unpack(mistakes):
            lines += [f"  {mistake.field}: {mistake.description}" for mistake in mistakes.field_violations]
        elif detail.Unpack(retry):
            lines.append(f"  try again in {retry.retry_delay.ToTimedelta()}")
    return "\n".join(lines)


def run(main) -> None:
    """Ends the process: 0 if `main` returned True, 1 if it did not, or if a call failed."""
    try:
        sys.exit(0 if main() else 1)
    except grpc.RpcError as error:
        sys.exit(explain(error))
    except KeyboardInterrupt:
        sys.exit(130)
