"""Consumes events from a durable queue: each is acknowledged once it is processed.

The first run declares the queue, which gets the events from then on. --count 0 does only that. With --count it ends after
so many events: exit status 0, or 1 if they did not come within --timeout.
"""

import json
import sys

import broker
import events


def main() -> bool:
    parser = broker.arguments(__doc__)
    parser.add_argument("--queue", default="example.events", help="default example.events")
    parser.add_argument("--bind", action="append", help="binding key, such as 'report.#' or '*.*.billing'; default '#'")
    parser.add_argument("--count", type=int, help="end after so many events; default: never")
    parser.add_argument("--json", action="store_true", help="print whole events as JSON")
    parser.add_argument("--delete", action="store_true", help="delete the queue at the end")
    args = parser.parse_args()

    connection = broker.connect(args)
    channel = connection.channel()
    # Without x-max-length: a full queue with reject-publish would not get events, drop-head would lose them.
    channel.queue_declare(args.queue, durable=True, arguments={"x-queue-type": "quorum"})
    for key in args.bind or ["#"]:
        channel.queue_bind(args.queue, exchange=f"{args.prefix}.events", routing_key=key)
    channel.basic_qos(prefetch_count=100)

    seen = set()
    timeout = args.timeout if args.count is not None else None
    if args.count != 0:
        for method, properties, content in broker.deliveries(channel, args.queue, timeout):
            # An event may come twice, with the same id. A real consumer keeps the ids with what it stored.
            if properties.message_id not in seen:
                print(events.show(json.loads(content), args.json), flush=True)
                seen.add(properties.message_id)
            channel.basic_ack(method.delivery_tag)
            if len(seen) == args.count:
                break
        channel.cancel()  # what was delivered and not acknowledged goes back to the queue
    if args.delete:
        channel.queue_delete(args.queue)
    connection.close()
    if args.count is not None and len(seen) < args.count:
        print(f"{len(seen)} of {args.count} events within {args.timeout} s", file=sys.stderr)
        return False
    return True


broker.run(main)
