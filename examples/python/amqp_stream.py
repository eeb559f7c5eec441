"""Reads the stream of all events from an offset. Reading removes nothing: any number of programs can read it again.

With --count it ends after so many events: exit status 0, or 1 if they did not come within --timeout.
"""

import datetime
import json
import sys

import broker
import events


def offset(args) -> str | int | datetime.datetime:
    """The consumer argument x-stream-offset: a position, an offset, or a time."""
    if args.since is not None:
        return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=args.since)
    return int(args.offset) if args.offset.isdecimal() else args.offset


def main() -> bool:
    parser = broker.arguments(__doc__)
    parser.add_argument("--offset", default="next", help="first, last, next or a number; default next")
    parser.add_argument("--since", type=float, metavar="SECONDS", help="begin about so long ago, instead of --offset")
    parser.add_argument("--count", type=int, help="end after so many events; default: never")
    parser.add_argument("--json", action="store_true", help="print whole events as JSON")
    args = parser.parse_args()

    connection = broker.connect(args)
    channel = connection.channel()
    # A stream needs both: a prefetch count, and acknowledgements, which let the broker deliver more.
    channel.basic_qos(prefetch_count=100)
    start = offset(args)
    seen = 0
    for method, properties, content in broker.deliveries(
        channel,
        f"{args.prefix}.events.log",
        args.timeout if args.count is not None else None,
        arguments={"x-stream-offset": start},
    ):
        at = properties.headers["x-stream-offset"]
        channel.basic_ack(method.delivery_tag)
        # The broker begins with the chunk that contains the offset.
        if isinstance(start, int) and at < start:
            continue
        # A real consumer stores the offset with what it processed, and begins with the next one.
        print(f"{at}  {events.show(json.loads(content), args.json)}", flush=True)
        seen += 1
        if seen == args.count:
            break
    # The connection ends with the process: pika's close would reject what it has not handed over, which streams refuse.
    if args.count is not None and seen < args.count:
        print(f"{seen} of {args.count} events within {args.timeout} s", file=sys.stderr)
        return False
    return True


broker.run(main)
