"""Pages through the API's logs of sent messages, newest first. Exit status 0 if there were at least --expect rows."""

import bridge
from smsbridge.v1 import sms_service_pb2, sms_service_pb2_grpc


def main() -> bool:
    parser = bridge.arguments(__doc__)
    parser.add_argument("--to", default="", help="only messages to this number")
    parser.add_argument("--page-size", type=int, default=50, help="rows of one call; default 50")
    parser.add_argument("--expect", type=int, default=0, help="how many rows are expected")
    args = parser.parse_args()

    rows = 0
    request = sms_service_pb2.ListSmsLogsRequest(to=args.to, page_size=args.page_size)
    with bridge.connect(args) as channel:
        sms = sms_service_pb2_grpc.SmsServiceStub(channel)
        while True:
            page = sms.ListSmsLogs(request, timeout=args.timeout, metadata=bridge.metadata(args))
            for log in page.logs:
                print(f"{log.sent_at.ToJsonString()}  {log.to}  {log.message_id}  {log.status.name}  {log.text!r}")
            rows += len(page.logs)
            # A page may be empty and still have a next one.
            if not page.next_page_token:
                return rows >= args.expect
            request.page_token = page.next_page_token


bridge.run(main)
