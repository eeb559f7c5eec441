//! A replay processes a body as if the API had just sent it.

use smsbridge::proto::v1::ReportSource;

use super::*;

const CLICK: &str = r#"{"results":[{"messageId":"billing.c","url":"https://x.example","clickedAt":"2026-11-30T10:00:00.000+0000"}]}"#;
const LOOKUP: &str = r#"{"results":[{"to":"41793026727","mccMnc":"22801"}]}"#;
const RECEIVED: &str = r#"{"results":[{"from":"41793026727","to":"41790000000","text":"Hi"},
    {"from":"41793026727","to":"41790000000","text":"Hi"}]}"#;

fn of_lookup(application: &str, request: &str) -> Origin {
    Origin {
        application: application.into(),
        request: request.into(),
        ..origin("lookups", Source::Push)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_gives_the_events_of_a_push() {
    on_both_engines(async |engine| {
        let seeds = vec![
            body(origin("reports", Source::Push), &report("a")),
            body(origin("reports", Source::Pull), &report("b")),
            body(origin("clicks", Source::Push), CLICK),
            body(of_lookup("billing", "r1"), LOOKUP),
            body(origin("inbound", Source::Push), RECEIVED),
            body(
                origin("inbound", Source::Query),
                "sender=41793026727&receiver=41790000000&text=Hi+you&messageId=mo1",
            ),
            body(origin("reports", Source::Push), "<html>"),
        ];
        let unreadable = seeds[6].id.to_string();
        let operated = Operated::start(engine, seeds).await;
        let replayed = operated.replay(Vec::new()).await;
        assert_eq!((replayed.count, replayed.unreadable_count), (6, 1));
        assert_eq!(replayed.unreadable[0].id, unreadable);
        assert!(!replayed.unreadable[0].detail.is_empty());
        assert!(!replayed.incomplete && replayed.incomplete_detail.is_empty());
        assert_eq!(ids(&operated.list().await), [&*unreadable]);

        let events = operated.bridge.all_events().await;
        let types: Vec<_> = events.iter().map(|event| event.r#type.as_str()).collect();
        let received = "inbound.received";
        assert_eq!(
            types,
            [
                "report.delivered",
                "report.delivered",
                "link.clicked",
                "lookup.completed",
                received,
                received,
                received
            ]
        );
        assert_eq!(reported(&events[0]).source(), ReportSource::Push);
        assert_eq!(reported(&events[1]).source(), ReportSource::Pull);
        assert_eq!(events[3].application, "billing");
        let Some(Payload::Received(by_query)) = &events[6].payload else {
            panic!()
        };
        assert_eq!(by_query.text, "Hi you");

        // The same pushes give the same events.
        assert_eq!(operated.push("reports", report("a")).await, 200);
        assert_eq!(operated.push("clicks", CLICK).await, 200);
        assert_eq!(
            operated
                .push("lookups?application=billing&request=r1", LOOKUP)
                .await,
            200
        );
        assert_eq!(
            distinct(operated.bridge.all_events().await).len(),
            events.len()
        );

        // What still cannot be read is there once, however often it is replayed.
        let again = operated.replay(vec![unreadable.clone(), "17".into()]).await;
        assert_eq!((again.count, again.unreadable_count), (0, 1));
        assert_eq!(again.not_found, ["17"]);
        assert_eq!(ids(&operated.list().await), [unreadable]);
        operated.bridge.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_body_that_is_read_in_part_the_rest_stays_once() {
    on_both_engines(async |engine| {
        let rows = r#"{"bulkId":"b1","results":[{"to":"41793026727","mccMnc":"22801"},[],{"mccMnc":"22801"}]}"#;
        let operated = Operated::start(engine, vec![body(of_lookup("billing", ""), rows)]).await;
        let replayed = operated.replay(Vec::new()).await;
        assert_eq!((replayed.count, replayed.unreadable_count), (1, 0));
        assert_eq!(operated.bridge.all_events().await.len(), 1);
        let parts = operated.list().await;
        assert!(parts.iter().all(|part| part.is_row && part.application == "billing"));
        let bodies = [operated.get(&parts[0].id).await, operated.get(&parts[1].id).await];
        assert_eq!(bodies.map(|part| part.body), [&b"[]"[..], br#"{"mccMnc":"22801"}"#]);
        for _ in 0..2 {
            let replayed = operated.replay(Vec::new()).await;
            assert_eq!((replayed.count, replayed.unreadable_count), (0, 2));
            assert_eq!(ids(&operated.list().await), ids(&parts));
        }
        assert_eq!(operated.bridge.all_events().await.len(), 1);
        operated.bridge.stop().await;
    })
    .await;
}

/// A row alone looks like a body: that it is one is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_read_as_a_row() {
    on_both_engines(async |engine| {
        let row = |text: &str| {
            let origin = Origin {
                is_row: true,
                ..of_lookup("billing", "bulk-1")
            };
            body(origin, text)
        };
        let read = r#"{"to":"41793026727","mccMnc":"22801"}"#;
        let as_a_body = r#"[{"to":"41793026727","mccMnc":"22801"}]"#;
        let operated = Operated::start(engine, vec![row("{}"), row(as_a_body), row(read)]).await;
        let replayed = operated.replay(Vec::new()).await;
        assert_eq!((replayed.count, replayed.unreadable_count), (1, 2));
        // The whole body of the row gives the same event: the id of its request stands around it.
        let whole = format!(r#"{{"bulkId":"bulk-1","results":[{read}]}}"#);
        assert_eq!(
            operated.push("lookups?application=billing", whole).await,
            200
        );
        assert_eq!(distinct(operated.bridge.all_events().await).len(), 1);
        operated.bridge.stop().await;
    })
    .await;
}

/// A body that says nothing is not thrown away.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_rows_stays() {
    on_both_engines(async |engine| {
        let seeds = vec![
            body(origin("reports", Source::Push), r#"{"results":[]}"#),
            body(origin("other", Source::Push), &report("a")),
        ];
        let operated = Operated::start(engine, seeds).await;
        let replayed = operated.replay(Vec::new()).await;
        assert_eq!((replayed.count, replayed.unreadable_count), (0, 2));
        assert_eq!(operated.list().await.len(), 2);
        assert!(operated.bridge.all_events().await.is_empty());
        operated.bridge.stop().await;
    })
    .await;
}

/// Its rows are events already: those without an id would be others.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_utf8_stays_and_gives_no_second_event() {
    on_both_engines(async |engine| {
        let operated = Operated::start(engine, Vec::new()).await;
        let pushed = b"{\"results\":[{\"from\":\"41793026727\",\"to\":\"41790000000\",\"text\":\"caf\xe9\"}]}";
        assert_eq!(operated.push("inbound", pushed.to_vec()).await, 200);
        let get = operated.bridge.webhook("inbound") + "?sender=41793026727&receiver=1&text=caf%E9";
        assert_eq!(reqwest::get(get).await.unwrap().status(), 200);
        let kept = operated.list().await;
        assert_eq!(kept.len(), 2);
        let replayed = operated.replay(Vec::new()).await;
        assert_eq!((replayed.count, replayed.unreadable_count), (0, 2));
        assert_eq!(operated.list().await, kept);
        assert_eq!(operated.bridge.all_events().await.len(), 2);
        operated.bridge.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_with_other_names_is_read_after_they_are_configured() {
    on_both_engines(async |engine| {
        let operated = Operated::start(engine, Vec::new()).await;
        let get = operated.bridge.webhook("inbound") + "?msisdn=41793026727&content=Hi+%C3%A4";
        assert_eq!(reqwest::get(get).await.unwrap().status(), 200);
        assert_eq!(operated.replay(Vec::new()).await.unreadable_count, 1);
        let operated = operated
            .restart(|config| {
                config.http.inbound_parameters.sender = "msisdn".into();
                config.http.inbound_parameters.text = "content".into();
            })
            .await;
        assert_eq!(operated.replay(Vec::new()).await.count, 1);
        let events = operated.bridge.all_events().await;
        let [
            Event {
                payload: Some(Payload::Received(received)),
                ..
            },
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(
            (&*received.from, &*received.text),
            ("41793026727", "Hi \u{e4}")
        );
        assert!(operated.list().await.is_empty());
        operated.bridge.stop().await;
    })
    .await;
}
