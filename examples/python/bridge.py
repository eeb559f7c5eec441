"""What the gRPC examples share: the connection to the bridge, and how its errors are shown."""

import argparse
import os
import sys
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser for the options that every example has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--address",
        default=os.environ.get("SMSBRIDGE_ADDRESS", "127.0.0.1:50051"),
        help="the bridge's gRPC address: HOST:PORT, http://HOST:PORT, or https://HOST:PORT for TLS "
        "(environment: SMSBRIDGE_ADDRESS)",
    )
    parser.add_argument(
        "--token",
        default=os.environ.get("SMSBRIDGE_TOKEN"),
        help="the bearer token (environment: SMSBRIDGE_TOKEN)",
    )
    parser.add_argument("--ca-file", type=Path, help="the CA (PEM) that signed the bridge's certificate")
    parser.add_argument("--cert-file", type=Path, help="the client certificate (PEM)")
    parser.add_argument("--key-file", type=Path, help="the key of the client certificate (PEM)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds; default 30")
    return parser


def connect(args: argparse.Namespace) -> grpc.Channel:
    """A channel to the bridge. With a certificate file, an address without a scheme means TLS."""
    scheme, _, authority = args.address.rstrip("/").rpartition("://")
    files = (args.ca_file, args.key_file, args.cert_file)
    if scheme == "https" or (not scheme and any(files)):
        pem = [file.read_bytes() if file else None for file in files]
        return grpc.secure_channel(authority, grpc.ssl_channel_credentials(*pem))
    if any(files):
        sys.exit(f"{args.address} is without TLS: use https:// with --ca-file, --cert-file and --key-file")
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
            lines.append(f"  reason: {info.reason} {dict(info.metadata) or ''}".rstrip())
        elif detail.Unpack(mistakes):
            lines += [f"  {mistake.field}: {mistake.description}" for mistake in mistakes.field_violations]
        elif detail.Unpack(retry):
            lines.append(f"  try again in {retry.retry_delay.ToTimedelta().total_seconds()} s")
    return "\n".join(lines)


def run(main) -> None:
    """Ends the process: 0 if `main` returned True, 1 if it did not or a call failed, 130 after Ctrl-C."""
    try:
        sys.exit(0 if main() else 1)
    except grpc.RpcError as error:
        sys.exit(explain(error))
    except OSError as error:  # a certificate file
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
