//! The XML samples of the reference (the documents of 2015 and the OpenAPI examples): requests are sent as printed, and
//! responses are compared element by element.
//!
//! The responses of 2015 nest `<messages><messages>` and have other roots. The simulator writes XML as in
//! docs/INFOBIP_API.md#xml, so only the requests of 2015 are samples here. The order of elements is not compared.

use std::time::Duration;

use quick_xml::{Reader, events::Event};
use serde_json::{Map, Value, json};

use crate::support::{
    account::Account,
    receiver::PushReceiver,
    samples::{Sample, assert_like},
};

/// A document as `{root: [content]}`: the children of every element as lists by name, a leaf as its text. Nothing is
/// unwrapped, so that a missing or additional wrapper is a difference.
fn tree(document: &str) -> Value {
    let mut reader = Reader::from_str(document);
    let mut open: Vec<(String, Map<String, Value>, String)> =
        vec![(String::new(), Map::new(), String::new())];
    let close = |open: &mut Vec<(String, Map<String, Value>, String)>| {
        let (name, children, text) = open.pop().expect("an open element");
        let content = if children.is_empty() {
            Value::String(text)
        } else {
            Value::Object(children)
        };
        let siblings = &mut open.last_mut().expect("a parent").1;
        siblings
            .entry(name)
            .or_insert_with(|| json!([]))
            .as_array_mut()
            .expect("a list")
            .push(content);
    };
    loop {
        match reader
            .read_event()
            .unwrap_or_else(|error| panic!("{error} in {document}"))
        {
            Event::Start(start) => {
                open.push((
                    start.local_name().into_inner().to_owned(),
                    Map::new(),
                    String::new(),
                ));
            }
            Event::Empty(start) => {
                open.push((
                    start.local_name().into_inner().to_owned(),
                    Map::new(),
                    String::new(),
                ));
                close(&mut open);
            }
            Event::End(_) => close(&mut open),
            Event::Text(text) => open
                .last_mut()
                .expect("an element")
                .2
                .push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let text = quick_xml::escape::resolve_predefined_entity(&reference);
                open.last_mut()
                    .expect("an element")
                    .2
                    .push_str(text.expect("a predefined entity"));
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open.len(), 1, "{document}");
    Value::Object(open.remove(0).1)
}

/// Compares the body of a response with a printed one.
#[track_caller]
fn assert_xml(answer: &(u16, String), printed: &str, varying: &[&str], more: &[&str]) {
    assert_eq!(answer.0, 200, "{}", answer.1);
    assert_like(
        &tree(&answer.1),
        &Sample::of(tree(printed)).varying(varying).and(more),
    );
}

const ACCEPTED: &str = "<status><groupId>0</groupId><groupName>ACCEPTED</groupName><id>0</id>\
    <name>MESSAGE_ACCEPTED</name><description>Message accepted</description></status>";
const DELIVERED: &str = "<status><groupId>3</groupId><groupName>DELIVERED</groupName><id>5</id>\
    <name>DELIVERED_TO_HANDSET</name><description>Message delivered to handset</description></status>";
/// The reference writes the group `Ok`, the manual `OK`.
const NO_ERROR: &str = "<error><groupId>0</groupId><groupName>OK</groupName><id>0</id><name>NO_ERROR</name>\
    <description>No Error</description><permanent>false</permanent></error>";
const PRICE: &str =
    "<price><pricePerMessage>0.01</pricePerMessage><currency>EUR</currency></price>";

fn message(to: &str, id: &str, parts: u8) -> String {
    format!(
        "<message><to>{to}</to>{ACCEPTED}<smsCount>{parts}</smsCount><messageId>{id}</messageId></message>"
    )
}

#[tokio::test]
async fn advanced_text_of_2015_accepts_bare_lists() {
    let account = Account::open().await;
    account.advance_to("2015-07-08T00:00:00Z").await;
    let request = r#"<request>
  <bulkId>BULK-ID-123-xyz</bulkId>
  <messages>
    <from>InfoSMS</from>
    <destinations>
      <to>41793026727</to>
      <messageId>MESSAGE-ID-123-xyz</messageId>
    </destinations>
    <destinations>
      <to>41793026731</to>
    </destinations>
    <text>Artık Ulusal Dil Tanımlayıcısı ile Türkçe karakterli smslerinizi rahatlıkla iletebilirsiniz.</text>
    <flash>false</flash>
    <language>
      <languageCode>TR</languageCode>
      <singleShift>true</singleShift>
      <lockingShift>false</lockingShift>
    </language>
    <transliteration>TURKISH</transliteration>
    <notifyUrl>http://127.0.0.1:9/sms/advanced</notifyUrl>
    <notifyContentType>application/json</notifyContentType>
    <callbackData>DLR callback data</callbackData>
    <validityPeriod>86400000</validityPeriod>
  </messages>
  <messages>
    <from>41793026700</from>
    <destinations>
      <to>41793026785</to>
    </destinations>
    <text>A long time ago, in a galaxy far, far away... It is a period of civil war. Rebel spaceships, striking from a hidden base, have won their first victory against the evil Galactic Empire.</text>
    <sendAt>2015-07-07T17:00:00.000+01:00</sendAt>
  </messages>
</request>"#;
    let answer = account.post_xml("/sms/1/text/advanced", request).await;
    let printed = format!(
        "<smsResponse><bulkId>BULK-ID-123-xyz</bulkId><messages>{}{}{}</messages></smsResponse>",
        message("41793026727", "MESSAGE-ID-123-xyz", 1),
        message("41793026731", "9304a5a3ab19-1ca1-be74-76ad87651ed25f35", 1),
        message("41793026785", "5f35f87a2f19-a141-43a4-91cd81b85f8c689", 2),
    );
    assert_xml(&answer, &printed, &["messageId"], &[]);
}

#[tokio::test]
async fn binary_multi_of_2015_accepts_nested_lists() {
    let account = Account::open().await;
    let request = "<request><messages>
      <messages><from>InfoSMS</from><to><to>41793026727</to><to>41793026731</to></to>
        <binary><hex>54 65 73 74 20 6d 65 73 73 61 67 65 2e</hex><dataCoding>0</dataCoding><esmClass>0</esmClass></binary>
      </messages>
      <messages><from>41793026700</from><to><to>41793026785</to></to>
        <binary><hex>d1 82 d0 b5 d1 81 d1 82 d0 b8 d1 80 d0 b0 d1 9a d0 b5 20 d1 9b d0 b8 d1 80 d0 b8 d0 bb d0 b8 d1 86 d0 b5</hex>
          <dataCoding>6</dataCoding><esmClass>0</esmClass></binary>
      </messages></messages></request>";
    let answer = account.post_xml("/sms/1/binary/multi", request).await;
    let printed = format!(
        "<smsResponse><bulkId>7241ea9b2ca9</bulkId><messages>{}{}{}</messages></smsResponse>",
        message("41793026727", "4242f196ba50", 1),
        message("41793026731", "9304a5a3ab19", 1),
        message("41793026785", "5f35f87a2f19", 1),
    );
    assert_xml(&answer, &printed, &["bulkId", "messageId"], &[]);
}

#[tokio::test]
async fn binary_single_of_2015_matches_the_sample() {
    let account = Account::open().await;
    // The JSON request of 2015 of the same kind, with the printed response.
    let request = json!({"from": "InfoSMS", "to": ["41793026727", "41793026834"],
        "binary": {"hex": "54 65 73 74 20 6d 65 73 73 61 67 65 2e", "dataCoding": 0, "esmClass": 0}});
    let (status, answer) = account.post("/sms/1/binary/single", &request).await;
    assert_eq!(
        (status, answer["messages"].as_array().map(Vec::len)),
        (200, Some(2))
    );
    assert_eq!(answer["messages"][1]["smsCount"], 1);
}

#[tokio::test]
async fn advanced_text_of_the_reference_accepts_wrapped_lists() {
    let account = Account::open().await;
    let request = r#"<?xml version="1.0" encoding="UTF-8"?><SMSAdvancedTextualRequest>
  <bulkId>BULK-ID-123-xyz</bulkId>
  <tracking><track>SMS</track><type>MY_CAMPAIGN</type></tracking>
  <messages>
    <message>
      <callbackData>DLR callback data</callbackData>
      <flash>false</flash>
      <from>InfoSMS</from>
      <intermediateReport>true</intermediateReport>
      <language><languageCode>TR</languageCode></language>
      <notifyContentType>application/json</notifyContentType>
      <notifyUrl>https://127.0.0.1:9/sms/advanced</notifyUrl>
      <text>Artık Ulusal Dil Tanımlayıcısı ile Türkçe karakterli smslerinizi rahatlıkla iletebilirsiniz.</text>
      <transliteration>TURKISH</transliteration>
      <validityPeriod>720</validityPeriod>
      <campaignReferenceId>summersale</campaignReferenceId>
      <destinations>
        <destination><messageId>MESSAGE-ID-123-xyz</messageId><to>41793026727</to></destination>
        <destination><to>41793026834</to></destination>
      </destinations>
    </message>
    <message>
      <deliveryTimeWindow>
        <days><days>MONDAY</days><days>TUESDAY</days><days>WEDNESDAY</days><days>THURSDAY</days><days>FRIDAY</days>
          <days>SATURDAY</days><days>SUNDAY</days></days>
        <from><hour>6</hour><minute>0</minute></from>
        <to><hour>15</hour><minute>30</minute></to>
      </deliveryTimeWindow>
      <from>41793026700</from>
      <text>A long time ago, in a galaxy far, far away... It is a period of civil war. Rebel spaceships, striking from a hidden base, have won their first victory against the evil Galactic Empire.</text>
      <destinations><destination><to>41793026700</to></destination></destinations>
    </message>
  </messages>
</SMSAdvancedTextualRequest>"#;
    let answer = account.post_xml("/sms/1/text/advanced", request).await;
    let printed = format!(
        "<smsResponse><bulkId>BULK-ID-123-xyz</bulkId><messages>{}{}{}</messages></smsResponse>",
        message("41793026727", "MESSAGE-ID-123-xyz", 1),
        message("41793026834", "2033247207850523792", 1),
        message("41793026700", "2033247207850523793", 2),
    );
    assert_xml(&answer, &printed, &["messageId"], &["trackingProcessKey"]);
}

#[tokio::test]
async fn advanced_binary_of_the_reference_matches_the_sample() {
    let account = Account::open().await;
    let request = r#"<?xml version="1.0" encoding="UTF-8"?><SMSAdvancedBinaryRequest>
  <bulkId>BULK-ID-123-xyz</bulkId>
  <messages>
    <message>
      <binary><dataCoding>0</dataCoding><esmClass>0</esmClass><hex>54 65 73 74 20 6d 65 73 73 61 67 65 2e</hex></binary>
      <from>InfoSMS</from>
      <destinations>
        <destination><messageId>MESSAGE-ID-123-xyz</messageId><to>41793026727</to></destination>
        <destination><to>41793026834</to></destination>
      </destinations>
    </message>
    <message>
      <binary><dataCoding>8</dataCoding><esmClass>0</esmClass><hex>0048 0065 006c 006c 006f 0020 0077 006f 0072 006c 0064 002c 0020 039a 03b1 03bb 03b7 03bc 03ad 03c1 03b1 0020 03ba 03cc 03c3 03bc 03b5 002c 0020 30b3 30f3 30cb 30c1 30cf</hex></binary>
      <flash>true</flash>
      <from>InfoSMS</from>
      <destinations><destination><to>41793026727</to></destination></destinations>
    </message>
  </messages>
</SMSAdvancedBinaryRequest>"#;
    let answer = account.post_xml("/sms/1/binary/advanced", request).await;
    let printed = format!(
        "<smsResponse><bulkId>BULK-ID-123-xyz</bulkId><messages>{}{}{}</messages></smsResponse>",
        message("41793026727", "MESSAGE-ID-123-xyz", 1),
        message("41793026834", "2033247207850523792", 1),
        message("41793026727", "2033247207850523793", 1),
    );
    assert_xml(&answer, &printed, &["messageId"], &[]);
}

#[tokio::test]
async fn query_string_sends_a_message() {
    let account = Account::open().await;
    let query = "username=Aladdin&password=open%20sesame&from=InfoSMS&to=41793026727,41793026834&text=Test%20SMS.";
    let answer = account
        .get_xml_as("", &format!("/sms/1/text/query?{query}"))
        .await;
    let printed = format!(
        "<smsResponse><bulkId>2034072219640523073</bulkId><messages>{}{}</messages></smsResponse>",
        message("41793026727", "2033247207850523791", 1),
        message("41793026834", "2033247207850523792", 1),
    );
    assert_xml(&answer, &printed, &["bulkId", "messageId"], &[]);
}

/// Sends two messages and advances the clock until they are delivered.
async fn send_two(account: &Account, notify_url: Option<&str>) {
    let request = json!({"bulkId": "BULK-ID-123-xyz", "messages": [
        {"destinations": [{"to": "41793026727", "messageId": "MESSAGE-ID-123-xyz"}], "from": "InfoSMS",
         "text": "Test SMS.", "callbackData": "callbackData", "notifyUrl": notify_url,
         "notifyContentType": notify_url.map(|_| "application/xml")},
        {"destinations": [{"to": "41793026834", "messageId": "MESSAGE-ID-ijkl-45"}], "from": "InfoSMS",
         "text": "Test SMS.", "notifyUrl": notify_url, "notifyContentType": notify_url.map(|_| "application/xml")},
    ]});
    let (status, answer) = account.post("/sms/1/text/advanced", &request).await;
    assert_eq!(status, 200, "{answer}");
    account.advance(Duration::from_secs(60)).await;
}

fn report(to: &str, id: &str, callback_data: &str) -> String {
    format!(
        "<result><bulkId>BULK-ID-123-xyz</bulkId><messageId>{id}</messageId><to>{to}</to>\
         <sentAt>2019-11-09T16:00:00.000+0000</sentAt><doneAt>2019-11-09T16:00:00.000+0000</doneAt>\
         <smsCount>1</smsCount>{callback_data}{PRICE}{DELIVERED}{NO_ERROR}</result>"
    )
}

fn reports() -> String {
    format!(
        "<reportResponse><results>{}{}</results></reportResponse>",
        report(
            "41793026727",
            "MESSAGE-ID-123-xyz",
            "<callbackData>callbackData</callbackData>"
        ),
        report("41793026834", "MESSAGE-ID-ijkl-45", ""),
    )
}

const TIMES: &[&str] = &["sentAt", "doneAt"];
const LOG_FIELDS: &[&str] = &["mccMnc", "from", "text"];

#[tokio::test]
async fn pulled_reports_match_the_sample() {
    let account = Account::open_with(|config| config.delivery_latency_ms = (200, 200)).await;
    send_two(&account, None).await;
    let answer = account.get_xml("/sms/1/reports?limit=2").await;
    assert_xml(&answer, &reports(), TIMES, LOG_FIELDS);
    // A path suffix has the same effect as the Accept header (docs/INFOBIP_API.md#endpoints).
    let again = account.get_text("/sms/1/reports.xml").await;
    assert_eq!(
        tree(&again.1),
        tree("<reportResponse><results/></reportResponse>")
    );
}

#[tokio::test]
async fn delivery_reports_pushed_have_the_same_root() {
    let receiver = PushReceiver::start().await;
    let account = Account::open_with(|config| config.delivery_latency_ms = (200, 200)).await;
    send_two(&account, Some(&receiver.url("/sms/advanced"))).await;
    let pushed = receiver.pushed();
    assert_eq!(pushed.len(), 1, "one push for both: {pushed:?}");
    assert!(
        pushed[0].headers["content-type"]
            .to_str()
            .expect("text")
            .starts_with("application/xml")
    );
    let body = String::from_utf8(pushed[0].body.to_vec()).expect("text");
    assert_xml(&(200, body), &reports(), TIMES, LOG_FIELDS);
}

#[tokio::test]
async fn logs_match_the_sample() {
    let account = Account::open().await;
    send_two(&account, None).await;
    let answer = account
        .get_xml("/sms/1/logs?bulkId=BULK-ID-123-xyz&messageId=MESSAGE-ID-123-xyz")
        .await;
    let row = report(
        "41793026727",
        "MESSAGE-ID-123-xyz",
        "<mccMnc>22801</mccMnc>",
    );
    assert_xml(
        &answer,
        &format!("<smsLogsResponse><results>{row}</results></smsLogsResponse>"),
        TIMES,
        LOG_FIELDS,
    );
}

#[tokio::test]
async fn received_messages_match_the_sample() {
    let account = Account::with_quiz().await;
    for _ in 0..2 {
        account
            .receive(
                "385916242493",
                "385921004026",
                json!({"text": "QUIZ Correct answer is Paris"}),
            )
            .await;
    }
    let answer = account.get_xml("/sms/1/inbox/reports?limit=1").await;
    let printed = "<reportResponse><messageCount>1</messageCount><pendingMessageCount>1</pendingMessageCount>\
        <results><result><messageId>817790313235066447</messageId><from>385916242493</from><to>385921004026</to>\
        <text>QUIZ Correct answer is Paris</text><cleanText>Correct answer is Paris</cleanText>\
        <keyword>QUIZ</keyword><receivedAt>2019-11-09T16:00:00.000+0000</receivedAt><smsCount>1</smsCount>\
        <price><pricePerMessage>0</pricePerMessage><currency>EUR</currency></price></result></results></reportResponse>";
    assert_xml(&answer, printed, &["messageId", "receivedAt"], &[]);
}

#[tokio::test]
async fn scheduled_bulks_match_the_samples() {
    let account = Account::open().await;
    let request = json!({"bulkId": "BULK-ID-123-xyz", "messages": [{"destinations": [{"to": "41793026727"}],
        "text": "Later", "sendAt": "2015-03-25T16:00:00.000+0000"}]});
    account.post("/sms/1/text/advanced", &request).await;
    let path = "/sms/1/bulks?bulkId=BULK-ID-123-xyz";
    let printed = |at: &str| {
        format!(
            "<BulkResponse><bulkId>BULK-ID-123-xyz</bulkId><sendAt>2015-03-{at}T16:00:00.000+0000</sendAt></BulkResponse>"
        )
    };
    assert_xml(&account.get_xml(path).await, &printed("25"), &[], &[]);
    let reschedule = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><BulkRequest>\n  <sendAt>2015-03-27T16:00:00.000+0000</sendAt>\n</BulkRequest>";
    assert_xml(
        &account.put_xml(path, reschedule).await,
        &printed("27"),
        &[],
        &[],
    );

    let path = "/sms/1/bulks/status?bulkId=BULK-ID-123-xyz";
    let printed = |status: &str| {
        format!(
            "<BulkStatusResponse><bulkId>BULK-ID-123-xyz</bulkId><status>{status}</status></BulkStatusResponse>"
        )
    };
    assert_xml(&account.get_xml(path).await, &printed("PENDING"), &[], &[]);
    let pause = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><UpdateStatusRequest>\n  <status>PAUSED</status>\n</UpdateStatusRequest>";
    assert_xml(
        &account.put_xml(path, pause).await,
        &printed("PAUSED"),
        &[],
        &[],
    );
}

#[tokio::test]
async fn previews_match_the_samples() {
    let account = Account::open().await;
    let turkish = "Mesaj gönderimi yapmadan önce önizleme seçeneğini kullanmanız doğru karar vermenize yardımcı olur.";
    let request = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><PreviewRequest><text>{turkish}</text>\
         <languageCode>TR</languageCode></PreviewRequest>"
    );
    let preview = |count: u8, left: u8, configuration: &str| {
        format!(
            "<previews><textPreview>{turkish}</textPreview><messageCount>{count}</messageCount>\
             <charactersRemaining>{left}</charactersRemaining>{configuration}</previews>"
        )
    };
    let printed = format!(
        "<PreviewResponse><originalText>{turkish}</originalText><previews>{}{}</previews></PreviewResponse>",
        preview(2, 36, "<configuration/>"),
        preview(
            1,
            57,
            "<configuration><language><languageCode>TR</languageCode></language></configuration>"
        ),
    );
    assert_xml(
        &account.post_xml("/sms/1/preview", &request).await,
        &printed,
        &[],
        &[],
    );
}

#[tokio::test]
async fn number_lookups_match_the_samples() {
    let account = Account::open_with(|config| {
        config.lookup_ported = 0.0;
        config.lookup_roaming = 0.0;
    })
    .await;
    let request = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><NcQueryRequest>\n  <to>\n    <to>41793026727</to>\n  </to>\n</NcQueryRequest>";
    let answer = account.post_xml("/number/1/query", request).await;
    let printed = format!(
        "<ncResponse><results><result><to>41793026727</to><mccMnc>22801</mccMnc><imsi>228011234567890</imsi>\
         <originalNetwork><networkName>Swisscom</networkName><networkPrefix>79</networkPrefix>\
         <countryName>Switzerland</countryName><countryPrefix>41</countryPrefix><networkId>123</networkId>\
         </originalNetwork><ported>false</ported><roaming>false</roaming><servingMSC>41001</servingMSC>\
         {DELIVERED}{NO_ERROR}</result></results></ncResponse>"
    );
    assert_xml(
        &answer,
        &printed,
        &["imsi", "networkId", "servingMSC"],
        &["bulkId"],
    );

    let request = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><NcNotifyRequest>\
        <notifyContentType>application/json</notifyContentType>\
        <notifyUrl>http://127.0.0.1:9/number/lookup/report</notifyUrl>\
        <to><to>41793026727</to><to>41793026834</to></to></NcNotifyRequest>";
    let answer = account.post_xml("/number/1/notify", request).await;
    let waiting = |to: &str| {
        format!(
            "<result><to>{to}</to><status><groupId>1</groupId><groupName>PENDING</groupName><id>3</id>\
             <name>PENDING_WAITING_DELIVERY</name><description>Message sent, waiting for delivery report</description>\
             </status><messageId>2b691c32-1233-4716-a763-4f70cc929eae</messageId></result>"
        )
    };
    let printed = format!(
        "<ncResponseAsync><bulkId>BULK-ID-123-xyz</bulkId><results>{}{}</results></ncResponseAsync>",
        waiting("41793026727"),
        waiting("41793026834"),
    );
    assert_xml(&answer, &printed, &["bulkId", "messageId"], &[]);
}

#[tokio::test]
async fn conversions_match_the_sample() {
    let account = Account::open().await;
    let request = json!({"tracking": {"track": "SMS", "processKey": "A37D448C1ACCA02FABA745522558326C"}, "messages": [
        {"destinations": [{"to": "41793026727", "messageId": "MESSAGE-ID-123-xyz"}], "text": "Your PIN is 1234"}]});
    account.post("/sms/1/text/advanced", &request).await;
    let answer = account
        .post_xml("/ct/1/log/end/MESSAGE-ID-123-xyz", "")
        .await;
    let printed = "<EndTagResponse><processKey>A37D448C1ACCA02FABA745522558326C</processKey></EndTagResponse>";
    assert_xml(&answer, printed, &[], &[]);
}

#[tokio::test]
async fn errors_match_the_samples() {
    let account = Account::open().await;
    let assert_exception = |body: &str, id: &str, text: &str| {
        let printed = format!(
            "<ApiException><requestError><serviceException><messageId>{id}</messageId><text>{text}</text>\
             </serviceException></requestError></ApiException>"
        );
        let more = ["validationErrors"];
        assert_like(&tree(body), &Sample::of(tree(&printed)).and(&more));
    };
    let truncated = account
        .post_xml("/sms/1/text/advanced", "<request><messages>")
        .await;
    assert_eq!(truncated.0, 400);
    assert_exception(&truncated.1, "BAD_REQUEST", "Bad request");
    let stranger = account
        .get_xml_as("Basic d3Jvbmc6d3Jvbmc=", "/sms/1/logs")
        .await;
    assert_eq!(stranger.0, 401);
    assert_exception(&stranger.1, "UNAUTHORIZED", "Invalid login details");
    let unknown = account.get_xml("/sms/1/bulks?bulkId=none").await;
    assert_eq!(unknown.0, 404);
    assert_exception(&unknown.1, "NOT_FOUND", "Bulk not found");
}
