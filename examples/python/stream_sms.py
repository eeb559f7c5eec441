"""Sends many messages on one stream and prints each result as it comes. Exit status 0 if all were accepted.

The fastest way to send: thousands may be in flight, and the answers come in any order.
"""

import sys
import uuid

import bridge
from smsbridge.v1 import message_pb2, sms_service_pb2, sms_service_pb2_grpc


def requests(pairs: list[str]):
    """Yields the requests. gRPC takes the next one as soon as the bridge can read it."""
    for index, pair in enumerate(pairs):
        to, _, text = pair.partition("=")
        message = message_pb2.OutboundMessage(destinations=[message_pb2.Destination(to=to)], text=text)
        yield sms_service_pb2.StreamSmsRequest(
            # Ours: it comes back with the results.
            correlation=str(index),
            # Store the request id with your own record: with it a message can be repeated after a lost connection.
            request=sms_service_pb2.SendSmsRequest(request_id=str(uuid.uuid4()), message=message),
        )


def main() -> bool:
    parser = bridge.arguments(__doc__)
    parser.add_argument("messages", nargs="+", metavar="NUMBER=TEXT", help="such as 41793026727=Hello")
    args = parser.parse_args()

    accepted = 0
    missing = set(map(str, range(len(args.messages))))
    with bridge.connect(args) as channel:
        sms = sms_service_pb2_grpc.SmsServiceStub(channel)
        stream = sms.StreamSms(requests(args.messages), timeout=args.timeout, metadata=bridge.metadata(args))
        # After the last request our side closes; the bridge answers what is in flight and ends the stream.
        for response in stream:
            missing.discard(response.correlation)
            for result in response.results:
                outcome = message_pb2.Outcome.Name(result.outcome)
                why = result.refusal.detail if result.HasField("refusal") else result.status.name
                print(f"{response.correlation}  {result.to}  {result.message_id}  {outcome}  {why}", flush=True)
                accepted += result.outcome == message_pb2.OUTCOME_ACCEPTED
    if missing:
        print(f"no answer for {sorted(missing, key=int)}", file=sys.stderr)
    return accepted == len(args.messages)


bridge.run(main)
