//! `smsbridge balance`, `preview` and `statuses`.

use super::*;

#[tokio::test]
async fn balance_prints_the_credit() {
    let bridge = ScriptedBridge::start().await;
    let balance = json!({"balance": "12.50", "currency": "EUR"});
    bridge
        .answer("get_balance", balance.clone())
        .answer("get_balance", balance.clone());
    let ended = run_at(&bridge, ["balance"]).await.expect(0);
    assert_eq!(ended.stdout, "12.50 EUR\n");
    let ended = run_at(&bridge, ["balance", "--json"]).await.expect(0);
    assert_eq!(ended.json_lines(), [balance]);
}

#[tokio::test]
async fn preview_prints_the_segments_of_each_encoding() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer(
        "preview_sms",
        json!({"originalText": "Çok", "previews": [
            {"textPreview": "Çok", "messageCount": 1, "charactersRemaining": 67},
            {"textPreview": "Cok", "messageCount": 1, "charactersRemaining": 157,
             "languageCode": "TR", "transliteration": "TURKISH"},
        ]}),
    );
    let args = [
        "preview",
        "Çok",
        "--language",
        "TR",
        "--transliteration",
        "TURKISH",
    ];
    let ended = run_at(&bridge, args).await.expect(0);
    assert_eq!(
        ended.stdout,
        "SEGMENTS  REMAINING  LANGUAGE  TRANSLITERATION  TEXT\n\
         1         67                                    Çok\n\
         1         157        TR        TURKISH          Cok\n"
    );
    assert_eq!(
        bridge.asked_once("preview_sms"),
        json!({"text": "Çok", "languageCode": "TR", "transliteration": "TURKISH"})
    );
}

#[tokio::test]
async fn statuses_prints_the_code_tables() {
    let bridge = ScriptedBridge::start().await;
    let status = json!({
        "id": 5, "name": "DELIVERED_TO_HANDSET", "groupId": 3, "groupName": "DELIVERED",
        "description": "Message delivered", "group": "STATUS_GROUP_DELIVERED",
    });
    let groups =
        json!([{"id": 3, "name": "DELIVERED", "group": "STATUS_GROUP_DELIVERED", "final": true}]);
    for _ in 0..2 {
        bridge.answer(
            "list_statuses",
            json!({"statuses": [status], "groups": groups}),
        );
    }
    let ended = run_at(&bridge, ["statuses"]).await.expect(0);
    assert_eq!(
        ended.stdout,
        "ID  NAME                  GROUP      FINAL  DESCRIPTION\n\
         5   DELIVERED_TO_HANDSET  DELIVERED  yes    Message delivered\n"
    );
    let ended = run_at(&bridge, ["statuses", "--json"]).await.expect(0);
    assert_eq!(ended.json_lines(), [status]);
    let error = json!({
        "id": 27, "name": "EC_ABSENT_SUBSCRIBER", "groupId": 1, "groupName": "HANDSET_ERRORS",
        "description": "Absent", "permanent": true,
    });
    bridge.answer("list_errors", json!({"errors": [error]}));
    let ended = run_at(&bridge, ["statuses", "--errors"]).await.expect(0);
    assert_eq!(
        ended.stdout,
        "ID  NAME                  GROUP           PERMANENT  DESCRIPTION\n\
         27  EC_ABSENT_SUBSCRIBER  HANDSET_ERRORS  yes        Absent\n"
    );
}
