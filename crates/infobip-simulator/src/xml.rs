//! Converts XML of the API to JSON values and back: the endpoints work with JSON only.
//!
//! Reading: the name of the root is ignored. A list may have each form of the reference: wrapped
//! (`<messages><message>`), nested (`<messages><messages>`, the documents of 2015) or bare and repeated. Leaves are
//! strings; the request type of the endpoint converts them. Depth, size and number of elements are bounded. A document type
//! declaration is refused, so that no entity that a caller defines is expanded.
//!
//! Writing: lists are wrapped (docs/INFOBIP_API.md#xml); `<previews><previews>` is as in the reference.

mod read;
mod write;

pub use read::{MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS, XmlError, to_json};
pub use write::from_json;

/// The element name of an item in a wrapped list; `None` if the manual has no list of that name.
fn item_name(list: &str) -> Option<&'static str> {
    match list {
        "messages" => Some("message"),
        "destinations" => Some("destination"),
        "results" => Some("result"),
        "previews" => Some("previews"),
        "days" => Some("days"),
        "to" => Some("to"),
        _ => None,
    }
}

/// Whether XML 1.0 forbids the character ("Char"), even as a character reference.
fn is_forbidden(character: char) -> bool {
    matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(body: &str) -> Value {
        to_json(body.as_bytes()).expect(body)
    }

    #[test]
    fn wrapped_nested_and_bare_lists_read_the_same() {
        let expected = json!({"bulkId": "B", "messages": [
            {"from": "InfoSMS", "destinations": [{"to": "41793026727", "messageId": "M"}, {"to": "41793026731"}], "text": "a"},
            {"from": "41793026700", "destinations": [{"to": "41793026785"}], "text": "b"},
        ]});
        let wrapped = "<SMSAdvancedTextualRequest><bulkId>B</bulkId><messages>
            <message><from>InfoSMS</from><destinations><destination><to>41793026727</to><messageId>M</messageId></destination>
              <destination><to>41793026731</to></destination></destinations><text>a</text></message>
            <message><from>41793026700</from><destinations><destination><to>41793026785</to></destination></destinations>
              <text>b</text></message></messages></SMSAdvancedTextualRequest>";
        let nested = "<request><bulkId>B</bulkId><messages>
            <messages><from>InfoSMS</from><destinations><destinations><to>41793026727</to><messageId>M</messageId></destinations>
              <destinations><to>41793026731</to></destinations></destinations><text>a</text></messages>
            <messages><from>41793026700</from><destinations><destinations><to>41793026785</to></destinations></destinations>
              <text>b</text></messages></messages></request>";
        let bare = "<request><bulkId>B</bulkId>
            <messages><from>InfoSMS</from><destinations><to>41793026727</to><messageId>M</messageId></destinations>
              <destinations><to>41793026731</to></destinations><text>a</text></messages>
            <messages><from>41793026700</from><destinations><to>41793026785</to></destinations>
              <text>b</text></messages></request>";
        for body in [wrapped, nested, bare] {
            assert_eq!(parsed(body), expected);
        }
    }

    #[test]
    fn to_is_a_number_a_list_or_a_time() {
        assert_eq!(parsed("<r><to>1</to></r>"), json!({"to": "1"}));
        assert_eq!(parsed("<r><to><to>1</to></to></r>"), json!({"to": ["1"]}));
        assert_eq!(
            parsed("<r><to><to>1</to><to>2</to></to></r>"),
            json!({"to": ["1", "2"]})
        );
        assert_eq!(
            parsed("<r><to>1</to><to>2</to><to>3</to></r>"),
            json!({"to": ["1", "2", "3"]})
        );
        let window = "<r><deliveryTimeWindow><days><days>MONDAY</days><days>SUNDAY</days></days>\
                      <from><hour>6</hour><minute>0</minute></from><to><hour>15</hour><minute>30</minute></to>\
                      </deliveryTimeWindow></r>";
        let expected = json!({"deliveryTimeWindow": {"days": ["MONDAY", "SUNDAY"],
            "from": {"hour": "6", "minute": "0"}, "to": {"hour": "15", "minute": "30"}}});
        assert_eq!(parsed(window), expected);
        assert_eq!(
            parsed("<r><days>MONDAY</days></r>"),
            json!({"days": ["MONDAY"]})
        );
    }

    #[test]
    fn text_comes_through_with_references_sections_and_blanks() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><!-- c --><x:r xmlns:x='u'>\
                    <text xml:space='preserve'> a &amp; &lt;b&gt; &#65;&#x1F600;<![CDATA[<c>]]>\r\nd </text><flash/></x:r>";
        assert_eq!(
            parsed(body),
            json!({"text": " a & <b> A😀<c>\nd ", "flash": ""})
        );
        assert_eq!(parsed("<r/>"), json!({}));
        assert_eq!(parsed("<r><messages/></r>"), json!({"messages": []}));
        assert_eq!(parsed("<r><a>1</a><a>2</a></r>"), json!({"a": "2"}));
    }

    #[test]
    fn unsafe_and_malformed_documents_are_refused() {
        let refused = |body: &[u8]| to_json(body).expect_err("refused");
        let bomb = b"<!DOCTYPE r [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><r>&b;</r>";
        assert_eq!(refused(bomb), XmlError::DocumentType);
        assert_eq!(refused(b"<r>&nbsp;</r>"), XmlError::Entity);
        assert_eq!(refused(b"<r>&#1;</r>"), XmlError::Character);
        assert_eq!(refused(b"<r>\x01</r>"), XmlError::Character);
        assert_eq!(refused(b"<r>\xff</r>"), XmlError::Encoding);
        assert_eq!(
            refused(b"<?xml version='1.0' encoding='ISO-8859-1'?><r/>"),
            XmlError::Encoding
        );
        assert_eq!(refused(b" <!-- nothing --> "), XmlError::NoRoot);
        for body in [
            "<r>",
            "<r><a></r>",
            "<r/><r/>",
            "<r/>x",
            "x",
            "</r>",
            "<r>&#xD800;</r>",
            "<r",
            "{}",
        ] {
            assert!(
                matches!(refused(body.as_bytes()), XmlError::Malformed(_)),
                "{body}"
            );
        }
        assert_eq!(
            refused("<a>".repeat(MAX_DEPTH + 1).as_bytes()),
            XmlError::TooDeep
        );
        let many = format!("<r>{}</r>", "<a/>".repeat(MAX_ELEMENTS));
        assert_eq!(refused(many.as_bytes()), XmlError::TooManyElements);
        assert_eq!(
            refused(&vec![b' '; MAX_BYTES + 1]),
            XmlError::TooLarge(MAX_BYTES + 1)
        );
    }

    #[test]
    fn responses_are_wrapped_as_the_reference_wraps_them() {
        let status =
            json!({"groupId": 0, "groupName": "ACCEPTED", "id": 0, "name": "MESSAGE_ACCEPTED"});
        let response = json!({"bulkId": "B", "messages": [{"to": "41793026727", "status": status, "smsCount": 1}]});
        let head = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        // Fields are written in the order of the map.
        let xml = from_json("smsResponse", &response);
        for expected in [
            head,
            "<smsResponse><bulkId>B</bulkId><messages><message>",
            "<groupName>ACCEPTED</groupName>",
            "<smsCount>1</smsCount>",
            "</message></messages></smsResponse>",
        ] {
            assert!(xml.contains(expected), "{expected} in {xml}");
        }
        let previews = json!({"previews": [{"messageCount": 1, "configuration": {}}]});
        let previews = from_json("PreviewResponse", &previews);
        assert!(
            previews.contains("<previews><previews>") && previews.contains("<configuration/>"),
            "{previews}"
        );
        let lookup =
            json!({"results": [{"to": "1", "ported": false, "imsi": null}], "to": ["1", "2"]});
        let lookup = from_json("ncResponse", &lookup);
        assert!(
            lookup.contains("<results><result>") && lookup.contains("<ported>false</ported>"),
            "{lookup}"
        );
        assert!(
            lookup.contains("<to><to>1</to><to>2</to></to>") && !lookup.contains("imsi"),
            "{lookup}"
        );
        assert_eq!(
            from_json("reportResponse", &json!({"results": []})),
            format!("{head}<reportResponse><results/></reportResponse>")
        );
        let error = json!({"requestError": {"serviceException": {"messageId": "BAD_REQUEST"}}});
        assert_eq!(
            from_json("ApiException", &error),
            format!(
                "{head}<ApiException><requestError><serviceException>\
            <messageId>BAD_REQUEST</messageId></serviceException></requestError></ApiException>"
            )
        );
    }

    #[test]
    fn any_text_and_any_key_is_written_well_formed() {
        let value = json!({"text": "a<b>&\"'\r\n\u{1}\u{b}\u{ffff}ž😀]]>", "callbackData": {"1 <key>": {"": [true, 0.0001]}}});
        let xml = from_json("r", &value);
        assert_eq!(
            to_json(xml.as_bytes()).expect(&xml)["text"],
            "a<b>&\"'\r\nž😀]]>"
        );
        assert!(
            xml.contains("<_1__key_><_><_>true</_><_>0.0001</_></_></_1__key_>"),
            "{xml}"
        );
    }

    #[test]
    fn lists_survive_a_round_trip() {
        let value = json!({"messageCount": "1", "results": [{"to": "1", "price": {"currency": "EUR"}}, {"to": "2"}]});
        assert_eq!(parsed(&from_json("reportResponse", &value)), value);
    }

    proptest::proptest! {
        #[test]
        fn no_input_makes_the_reader_panic(body in "[<>/&;a-c!\\[\\]CDAT \"'?#x1-9=-]{0,64}") {
            // Whatever can be read can be written and read again.
            if let Ok(value) = to_json(body.as_bytes()) {
                proptest::prop_assert!(to_json(from_json("r", &value).as_bytes()).is_ok());
            }
        }

        #[test]
        fn every_written_document_can_be_read(key in ".{0,8}", text in ".{0,32}") {
            let xml = from_json("r", &json!({ key: { "messages": [{ "text": text }] } }));
            proptest::prop_assert!(to_json(xml.as_bytes()).is_ok(), "{}", xml);
        }
    }
}
