"""One line for an event. gRPC and the broker carry the same event; here it is a dictionary, as in proto JSON."""

import json


def show(event: dict, whole: bool = False) -> str:
    """A short line, or the whole event as JSON."""
    if whole:
        return json.dumps(event, ensure_ascii=False)
    time = event["time"].partition(".")[0].partition("+")[0].rstrip("Z")
    return f"{time}Z  {event['type']}  {event['application']}  {summary(event)}"


def summary(event: dict) -> str:
    """What the payload says. Exactly one of these fields is set; later versions may add others."""
    if result := event.get("result"):
        why = result.get("refusal", {}).get("reason") or result.get("status", {}).get("name", "")
        return f"{result.get('to', '')}  {result.get('messageId', '')}  {why}"
    if report := event.get("report"):
        return f"{report['to']}  {report['messageId']}  {report['status']['name']}"
    if received := event.get("received"):
        return f"{received['from']} to {received['to']}  {received.get('text', '')!r}"
    if click := event.get("click"):
        return f"{click.get('recipient', '')}  {click.get('url', '')}"
    if lookup := event.get("lookup"):
        return f"{lookup['to']}  {lookup.get('mccMnc', '')}"
    if invalid := event.get("invalidCommand"):
        mistakes = "; ".join(f"{it['field']}: {it['description']}" for it in invalid.get("violations", []))
        return f"request {event.get('requestId', '')}  {invalid['reason']}: {mistakes or invalid['detail']}"
    return ""
