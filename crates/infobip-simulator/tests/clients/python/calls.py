"""Makes every `/sms/1/…` call of an unmodified infobip-api-python-client against the simulator and prints, as one line
of JSON, the result of each call. tests/it/clients.rs runs this script and checks the results.

Versions up to 4 have reports and logs under `/sms/1/`, later ones read them from `/sms/3/`; inbox, scheduled bulks and
preview are under `/sms/1/` in both.
"""

import base64
import datetime
import importlib.metadata
import json
import os
import urllib.request

import infobip_api_client as infobip
from infobip_api_client.api.sms_api import SmsApi
from infobip_api_client.models import SmsBulkRequest, SmsPreviewRequest, SmsUpdateStatusRequest

URL = os.environ["SIMULATOR_URL"]
MAJOR = int(importlib.metadata.version("infobip-api-python-client").split(".")[0])


def post(path, body):
    """A request that the client does not make: the simulator's own control, or sending by v1."""
    credentials = f"{os.environ['SIMULATOR_USERNAME']}:{os.environ['SIMULATOR_PASSWORD']}"
    request = urllib.request.Request(URL + path, json.dumps(body).encode())
    request.add_header("Authorization", "Basic " + base64.b64encode(credentials.encode()).decode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def plain(model):
    """The model as plain JSON; the clients' own `to_json` cannot write dates."""
    return json.loads(json.dumps(model.to_dict(), default=lambda date: date.isoformat()))


def client(key):
    if MAJOR >= 6:
        configuration = infobip.Configuration(host=URL, api_key=key)
    else:
        configuration = infobip.Configuration(
            host=URL, api_key={"APIKeyHeader": key}, api_key_prefix={"APIKeyHeader": "App"}
        )
    return SmsApi(infobip.ApiClient(configuration))


def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except infobip.exceptions.ApiException as error:
        return {"status": error.status, "body": json.loads(error.body)}
    return "accepted"


def main():
    results = {}
    sms = client(os.environ["SIMULATOR_API_KEY"])

    preview = SmsPreviewRequest(
        text="Let's see how many characters remain unused in this message.", language_code="TR"
    )
    results["preview"] = plain(sms.preview_sms_message(preview))

    if MAJOR < 5:
        before = datetime.datetime.fromisoformat(os.environ["NOW"])
        sent = post(
            "/sms/1/text/multi",
            {"messages": [{"from": "InfoSMS", "to": ["41793026727", "41793026731"], "text": "Test SMS."}]},
        )
        post("/_sim/clock", {"advanceMs": 600000})
        bulk = sent["bulkId"]
        ids = [message["messageId"] for message in sent["messages"]]
        results["reports"] = plain(sms.get_outbound_sms_message_delivery_reports(bulk_id=bulk, limit=10))
        results["reportsAgain"] = plain(sms.get_outbound_sms_message_delivery_reports(bulk_id=bulk))
        # Repeated parameters, and dates with microseconds.
        results["logs"] = plain(
            sms.get_outbound_sms_message_logs(
                message_id=ids, sent_since=before, sent_until=before + datetime.timedelta(hours=1), limit=10
            )
        )

    post("/_sim/inbound", {"from": "385916242493", "to": "385921004026", "text": "QUIZ Correct answer is Paris"})
    results["inbox"] = plain(sms.get_inbound_sms_messages(limit=10))

    bulk = f"python-bulk-{MAJOR}"
    post(
        "/sms/1/text/advanced",
        {
            "bulkId": bulk,
            "messages": [
                {"destinations": [{"to": "41793026727"}], "text": "Later", "sendAt": os.environ["SEND_AT"]}
            ],
        },
    )
    later = SmsBulkRequest(send_at=datetime.datetime.fromisoformat(os.environ["SEND_AT_LATER"]))
    paused = SmsUpdateStatusRequest(status="PAUSED")
    results["scheduled"] = plain(sms.get_scheduled_sms_messages(bulk_id=bulk))
    results["rescheduled"] = plain(sms.reschedule_sms_messages(bulk_id=bulk, sms_bulk_request=later))
    results["status"] = plain(sms.get_scheduled_sms_messages_status(bulk_id=bulk))
    results["statusUpdated"] = plain(
        sms.update_scheduled_sms_messages_status(bulk_id=bulk, sms_update_status_request=paused)
    )
    results["unknownBulk"] = refused(sms.get_scheduled_sms_messages, bulk_id="no-such-bulk")
    results["refused"] = refused(client("wrong").get_inbound_sms_messages)

    print(json.dumps(results))


main()
