"""Pulls unread delivery reports and received messages. The API gives each of them once; here they become events before
they are shown, so nothing is lost. Exit status 0 if there were at least --reports and --messages of them."""

import bridge
from smsbridge.v1 import (
    inbox_service_pb2,
    inbox_service_pb2_grpc,
    report_service_pb2,
    report_service_pb2_grpc,
)


def main() -> bool:
    parser = bridge.arguments(__doc__)
    parser.add_argument("--reports", type=int, default=0, help="how many are expected")
    parser.add_argument("--messages", type=int, default=0, help="how many are expected")
    args = parser.parse_args()
    call = {"timeout": args.timeout, "metadata": bridge.metadata(args)}

    with bridge.connect(args) as channel:
        reports = report_service_pb2_grpc.ReportServiceStub(channel).PullDeliveryReports(
            report_service_pb2.PullDeliveryReportsRequest(limit=100), **call
        )
        inbox = inbox_service_pb2_grpc.InboxServiceStub(channel).PullReceivedMessages(
            inbox_service_pb2.PullReceivedMessagesRequest(limit=100), **call
        )
    if not reports.reports and not inbox.messages:
        print("nothing unread")
    for report in reports.reports:
        print(f"report   {report.message_id}  {report.to}  {report.status.name}")
    for message in inbox.messages:
        print(f"message  {message.message_id}  {getattr(message, 'from')}  {message.text}")
    return len(reports.reports) >= args.reports and len(inbox.messages) >= args.messages


bridge.run(main)
