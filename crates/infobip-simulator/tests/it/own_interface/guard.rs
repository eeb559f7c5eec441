//! Who may use the page and the control interface: requests of other sites can neither read nor change anything.

use super::*;
use crate::support::simulator::TestSimulator;

const READS: [&str; 13] = [
    "/",
    "/_sim/",
    "/_sim/assets/main.js",
    "/_sim/phones",
    "/_sim/messages",
    "/_sim/requests",
    "/_sim/pushes",
    "/_sim/account",
    "/_sim/outcomes",
    "/_sim/faults",
    "/_sim/clock",
    "/_sim/state",
    "/_sim/stream",
];
const CHANGES: [(&str, &str, &str); 6] = [
    (
        "POST",
        "/_sim/inbound",
        r#"{"from":"41793026727","to":"41793026700","text":"x"}"#,
    ),
    ("POST", "/_sim/faults", r#"{"kind":"reset"}"#),
    ("DELETE", "/_sim/faults", ""),
    ("POST", "/_sim/clock", r#"{"advanceMs":1}"#),
    ("POST", "/_sim/keywords", r#"{"to":"1","keyword":"a"}"#),
    ("POST", "/_sim/reset", ""),
];

/// The status of a request with these headers. A stream is not read.
async fn status(
    simulator: &TestSimulator,
    method: &str,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> StatusCode {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = simulator.anonymous(method, path).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn a_foreign_origin_can_neither_read_nor_change_anything() {
    let simulator = TestSimulator::start().await;
    let port = simulator.address().port();
    let other_port = format!("http://127.0.0.1:{}", port ^ 1);
    // What the changes would undo.
    let fault = json!({"kind": "status", "status": 503, "path": "/nowhere"});
    simulator.fault(fault).await;
    let faults = simulator.get("/_sim/faults").await;
    simulator.inbound("41793026727", "41793026700", "x").await;
    let foreign: [&[(&str, &str)]; 5] = [
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", &other_port)],
        &[("sec-fetch-site", "cross-site")],
        &[
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-mode", "no-cors"),
        ],
    ];
    for headers in foreign {
        for path in READS {
            let got = status(&simulator, "GET", path, "", headers).await;
            assert_eq!(got, StatusCode::FORBIDDEN, "GET {path} {headers:?}");
        }
        for (method, path, body) in CHANGES {
            let got = status(&simulator, method, path, body, headers).await;
            assert_eq!(got, StatusCode::FORBIDDEN, "{method} {path} {headers:?}");
        }
        let got = status(&simulator, "OPTIONS", "/_sim/reset", "", headers).await;
        assert_eq!(got, StatusCode::FORBIDDEN);
    }
    assert_eq!(
        simulator.get("/_sim/account").await["stored"]["received"],
        1
    );
    assert_eq!(simulator.get("/_sim/faults").await, faults);
}

#[tokio::test]
async fn the_page_itself_and_other_programs_are_accepted() {
    let simulator = TestSimulator::start().await;
    let own = simulator.base_url();
    let accepted: [&[(&str, &str)]; 4] = [
        &[],
        &[("origin", &own)],
        &[("origin", &own), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ];
    for headers in accepted {
        for path in READS {
            let got = status(&simulator, "GET", path, "", headers).await;
            assert!(got == 200 || got == 302, "GET {path} {headers:?} {got}");
        }
        for (method, path, body) in CHANGES {
            let got = status(&simulator, method, path, body, headers).await;
            assert_eq!(got, 200, "{method} {path} {headers:?}");
        }
    }
    // A link on another site may open the page, and load nothing else.
    let link = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    assert_eq!(status(&simulator, "GET", "/_sim/", "", &link).await, 200);
    assert_eq!(status(&simulator, "GET", "/", "", &link).await, 302);
    assert_eq!(
        status(&simulator, "GET", "/_sim/account", "", &link).await,
        403
    );
    let frame = [link[0], link[1], ("sec-fetch-dest", "iframe")];
    assert_eq!(status(&simulator, "GET", "/_sim/", "", &frame).await, 403);
}

#[tokio::test]
async fn a_foreign_host_is_refused_with_the_switch_that_allows_it() {
    let simulator = TestSimulator::with(|config| {
        config.allowed_hosts = vec!["sim.example.com".to_owned()];
    })
    .await;
    for path in READS {
        let got = status(
            &simulator,
            "GET",
            path,
            "",
            &[("host", "rebound.example:8090")],
        )
        .await;
        assert_eq!(got, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    let request = simulator
        .anonymous(Method::GET, "/_sim/account")
        .header("host", "rebound.example");
    let answer = simulator.answer(request).await;
    let exception = &answer.json()["requestError"]["serviceException"];
    assert_eq!(exception["messageId"], "HOST_NOT_ALLOWED");
    let text = exception["text"].as_str().unwrap();
    assert!(text.contains("--allow-host rebound.example"), "{text}");
    for host in [
        "localhost",
        "a.localhost:1",
        "[::1]:80",
        "10.0.0.1",
        "simulator",
        "SIM.example.com:443",
    ] {
        assert_eq!(
            status(&simulator, "GET", "/_sim/account", "", &[("host", host)]).await,
            200,
            "{host}"
        );
    }
    let behind_tls = [
        ("host", "sim.example.com"),
        ("origin", "https://sim.example.com"),
    ];
    assert_eq!(
        status(&simulator, "GET", "/_sim/account", "", &behind_tls).await,
        200
    );
}

#[tokio::test]
async fn the_api_is_not_affected() {
    let simulator = TestSimulator::start().await;
    let body = json!({"messages": [text(TO, "m-1", "a")]}).to_string();
    let request = simulator
        .request(Method::POST, "/sms/1/text/advanced")
        .header("content-type", "application/json")
        .header("host", "api.example.com")
        .header("origin", "https://evil.example")
        .header("sec-fetch-site", "cross-site")
        .body(body);
    let answer = simulator.answer(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.get("content-security-policy"), None);
    assert_eq!(answer.headers.get("x-content-type-options"), None);
    // Other requests to the root are still the API's.
    let answer = simulator.answer(simulator.request(Method::POST, "/")).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn every_response_binds_the_page_to_its_own_server() {
    let simulator = TestSimulator::start().await;
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let foreign = [("origin", "https://evil.example")];
    for (path, headers) in READS
        .iter()
        .map(|path| (*path, &[][..]))
        .chain([("/_sim/nothing", &[][..]), ("/_sim/account", &foreign[..])])
    {
        let mut request = simulator.anonymous(Method::GET, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("content-security-policy"), policy, "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(response.headers().get("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn the_page_and_its_files_are_served_and_nothing_else() {
    let simulator = TestSimulator::start().await;
    let root = get(&simulator, "/").await;
    assert_eq!(root.status, StatusCode::FOUND);
    assert_eq!(root.headers["location"], "/_sim/");
    assert_eq!(get(&simulator, "/_sim").await.headers["location"], "/_sim/");
    let page = get(&simulator, "/_sim/").await;
    assert_eq!(page.content_type, "text/html;charset=UTF-8");
    assert!(page.text.contains("<!doctype html>"));
    // Whatever the page names is served, and it names no other server.
    for word in page.text.split(['"', '\'']) {
        assert!(
            !word.starts_with("http:") && !word.starts_with("//"),
            "{word}"
        );
        if let Some(asset) = word.strip_prefix("assets/") {
            let asset = get(&simulator, &format!("/_sim/assets/{asset}")).await;
            assert_eq!(asset.status, 200, "{word}");
            // A module that is imported and not preloaded.
            for import in asset
                .text
                .split('"')
                .filter_map(|word| word.strip_prefix("./"))
            {
                let imported = get(&simulator, &format!("/_sim/assets/{import}")).await;
                assert_eq!(imported.status, 200, "{import}, which {word} imports");
            }
        }
    }
    let head = simulator
        .answer(simulator.anonymous(Method::HEAD, "/_sim/"))
        .await;
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
    for path in [
        "/_sim/assets/",
        "/_sim/assets/nothing.js",
        "/_sim/assets/..%2Findex.html",
        "/_sim/assets/index.html",
    ] {
        assert_eq!(get(&simulator, path).await.status, 404, "{path}");
    }
    let posted = simulator
        .answer(simulator.anonymous(Method::POST, "/_sim/"))
        .await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        simulator.requests().await,
        Vec::<Value>::new(),
        "the page is not in the request log"
    );
}

#[tokio::test]
async fn other_methods_are_refused() {
    let simulator = TestSimulator::start().await;
    for path in [
        "/_sim/phones",
        "/_sim/phones/1",
        "/_sim/account",
        "/_sim/messages/m-1",
        "/_sim/requests/0",
        "/_sim/outcomes",
        "/_sim/faults/kinds",
        "/_sim/stream",
    ] {
        let got = status(&simulator, "POST", path, "{}", &[]).await;
        assert_eq!(got, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}
