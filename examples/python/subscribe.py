"""Consumes a durable subscription: the bridge keeps its position, and redelivers each event until it is acknowledged.

The first run creates the subscription, which begins with the next event. --count 0 does only that. With --count it ends
after so many events: exit status 0, or 1 if they did not come within --timeout.
"""

import queue
import sys

import grpc
from google.protobuf.json_format import MessageToDict

import bridge
import events
from smsbridge.v1 import event_service_pb2 as api
from smsbridge.v1 import event_service_pb2_grpc


def main() -> bool:
    parser = bridge.arguments(__doc__)
    parser.add_argument("--name", default="example", help="the subscription: a-z, 0-9 and -; default example")
    parser.add_argument("--type", action="append", default=[], help="such as 'report.#'; may be repeated")
    parser.add_argument("--count", type=int, help="end after so many events; default: never")
    parser.add_argument("--json", action="store_true", help="print whole events as JSON")
    args = parser.parse_args()

    # The requests of the stream: gRPC takes them from this queue, until None closes our side.
    requests = queue.SimpleQueue()
    start = api.SubscriptionStart(
        name=args.name,
        filter=api.EventFilter(types=args.type),
        max_outstanding=10,  # unacknowledged deliveries at a time
    )
    requests.put(api.SubscribeRequest(start=start))
    seen = 0
    with bridge.connect(args) as channel:
        stream = event_service_pb2_grpc.EventServiceStub(channel).Subscribe(
            iter(requests.get, None),
            timeout=args.timeout if args.count is not None else None,
            metadata=bridge.metadata(args),
        )
        try:
            for response in stream:
                if response.HasField("ready"):
                    print(f"{'created' if response.ready.created else 'continued'} {args.name}", flush=True)
                elif seen != args.count:
                    delivery = response.delivery
                    # Process the event first. An event that is not acknowledged is delivered again.
                    print(events.show(MessageToDict(delivery.event), args.json), flush=True)
                    acknowledge = api.Acknowledge(delivery_ids=[delivery.delivery_id])
                    requests.put(api.SubscribeRequest(acknowledge=acknowledge))
                    seen += 1
                if seen == args.count:
                    # The bridge reads what was sent before, then ends the stream.
                    requests.put(None)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            print(f"{seen} of {args.count} events within {args.timeout} s", file=sys.stderr)
        finally:
            requests.put(None)
    return seen == args.count


bridge.run(main)
