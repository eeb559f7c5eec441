"""Prints events as they happen, one line for each, and connects again where it left off.

With --count it ends after so many events: exit status 0, or 1 if they did not come within --timeout.
"""

import sys
import time

import grpc
from google.protobuf.json_format import MessageToDict

import bridge
import events
from smsbridge.v1 import event_service_pb2, event_service_pb2_grpc

# Codes about the request: repeating it does not help.
FINAL = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}


def main() -> bool:
    parser = bridge.arguments(__doc__)
    parser.add_argument("--type", action="append", default=[], help="such as 'report.#'; may be repeated")
    parser.add_argument("--since", type=float, metavar="SECONDS", help="begin so long ago; default: now")
    parser.add_argument("--cursor", help="begin after the event with this cursor")
    parser.add_argument("--count", type=int, help="end after so many events; default: never")
    parser.add_argument("--json", action="store_true", help="print whole events as JSON")
    args = parser.parse_args()

    request = event_service_pb2.StreamEventsRequest(
        filter=event_service_pb2.EventFilter(types=args.type)
    )
    if args.cursor:
        request.cursor = args.cursor
    else:
        # Without a start, events would be missed while it connects again.
        request.since.FromNanoseconds(time.time_ns() - int((args.since or 0) * 1e9))

    deadline = time.monotonic() + args.timeout if args.count else None
    seen = 0
    with bridge.connect(args) as channel:
        stub = event_service_pb2_grpc.EventServiceStub(channel)
        while True:
            remaining = max(deadline - time.monotonic(), 0) if deadline else None
            stream = stub.StreamEvents(request, timeout=remaining, metadata=bridge.metadata(args))
            try:
                for response in stream:
                    print(events.show(MessageToDict(response.event), args.json), flush=True)
                    # A real consumer stores the cursor once it has processed the event.
                    request.cursor = response.event.cursor
                    seen += 1
                    if seen == args.count:
                        return True
            except grpc.RpcError as error:
                if error.code() in FINAL:
                    raise
                if deadline and time.monotonic() >= deadline:
                    print(f"{seen} of {args.count} events within {args.timeout} s", file=sys.stderr)
                    return False
                print(f"{bridge.explain(error)}: connecting again", file=sys.stderr)
            time.sleep(1)


bridge.run(main)
