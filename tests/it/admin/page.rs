//! The status page in a real browser.

use fallgate::node::NodeOptions;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{ADMIN_TOKEN, Operator};
use crate::{
    sight::stage::Stage,
    support::{
        Plan, Sandbox, TOKEN, Wire,
        browser::Browser,
        uuid,
        wire::{end, head, start, start_body},
    },
};

/// A page's `Tab` and `Enter`, as WebDriver has them.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

async fn page(sandbox: &Sandbox) -> Option<Browser> {
    let browser = Browser::start(1440, 900).await?;
    browser.open(&format!("http://{}/", Operator::of(sandbox).address)).await;
    browser.until("document.body.dataset.stream === 'live'").await;
    Some(browser)
}

/// A session of this user that stays open.
async fn session(sandbox: &Sandbox, user: &str) -> String {
    let (host, id) = (sandbox.address("plain").await, uuid());
    let body = String::from_utf8(start_body(&id, "put", TOKEN.as_bytes(), &["f"])).unwrap().replace("xfer", user);
    assert_eq!(Wire::plain(host).await.ask(&start(host, &id, body.as_bytes())).await.status, 200);
    id
}

const ROWS: &str = "document.querySelectorAll('#sessions tbody tr[data-id]').length";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_begins_moves_and_ends_and_says_nothing_to_its_console() {
    let sandbox = Plan::new().start().await;
    let Some(browser) = page(&sandbox).await else { return };
    browser.until("document.body.dataset.state === 'ready'").await;
    assert_eq!(browser.value(ROWS).await, 0);
    assert_eq!(browser.value("document.querySelector('#empty').hidden").await, false, "it says what will be here");
    let id = session(&sandbox, "anna").await;
    browser.until(&format!("{ROWS} === 1")).await;
    let host = sandbox.address("plain").await;
    let mut wire = Wire::plain(host).await;
    wire.send(&head("PUT", host, &id, "file/film.mxf", "Content-Length: 4000000\r\n")).await;
    wire.send(&[7; 1_000_000]).await;
    browser.until("document.querySelector('#sessions tbody tr').innerText.includes('film.mxf')").await;
    browser.until("document.querySelector('#sessions tbody tr').innerText.includes('25')").await;
    browser.until("document.querySelector('#upload').innerText.includes('bit/s')").await;
    for part in ["anna", "127.0.0.1", "plain"] {
        assert_eq!(
            browser
                .run(
                    "return document.querySelector('#sessions tbody tr').innerText.includes(arguments[0])",
                    json!([part])
                )
                .await,
            true,
            "{part}"
        );
    }
    assert_eq!(
        browser.run("return document.documentElement.outerHTML.includes(arguments[0])", json!([id])).await,
        false
    );
    wire.send(&[7; 3_000_000]).await;
    assert_eq!(wire.head().await.status, 201);
    Wire::plain(host).await.ask(&end(host, &id, "DONE")).await;
    browser.until(&format!("{ROWS} === 0")).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_each_state_and_that_it_has_lost_the_gateway() {
    let stage = Stage::start().await;
    let Some(browser) = page(&stage.sandbox).await else { return };
    browser.until("document.body.dataset.state === 'degraded'").await;
    browser.until("document.querySelector('#notes').innerText.includes('n3')").await;
    stage.refusals().await;
    for word in ["token_shape", "tls_handshake", "policy_denied"] {
        browser.until(&format!("document.querySelector('#refusals').innerText.includes('{word}')")).await;
    }
    browser.until("document.querySelector('#certificates').innerText.includes('days left')").await;
    browser.until("document.querySelector('#limits').innerText.includes('max_sessions')").await;
    let mut first = stage.session("ann").await;
    assert_eq!(first.answer().await, 200);
    let mut second = stage.session("ann").await;
    browser.until("document.querySelector('#waiting-now').innerText === '1'").await;
    let tunnel = stage.tunnel().await;
    browser.until("document.querySelector('#flows [data-listener=\"egress\"]').innerText.includes('1 open')").await;
    drop(tunnel);
    assert_eq!((first.end().await, second.answer().await), (200, 200));
    let hurry = CancellationToken::new();
    let drained = tokio::spawn(stage.sandbox.gateway.drain(hurry.clone()));
    browser.until("document.body.dataset.state === 'draining'").await;
    browser.until("document.querySelector('#notes').innerText.includes('1 ')").await;
    let before = browser.complaints().await;
    assert_eq!(before, Vec::<String>::new());
    hurry.cancel();
    drained.await.unwrap();
    browser.until("document.body.dataset.stream === 'lost'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sessions_can_be_sorted_and_filtered_while_they_move() {
    let plan = Plan::new().node(NodeOptions::default());
    let limits = "limits: {max_sessions_per_client: off, session_starts_per_client: off, requests_per_client: off}";
    let sandbox = plan.top(limits).start().await;
    for n in 0..1000 {
        session(&sandbox, &format!("user-{n:04}")).await;
    }
    let Some(browser) = page(&sandbox).await else { return };
    browser.until("document.querySelector('#count').innerText.includes('1,000')").await;
    let sort = "document.querySelector('#sessions th [data-col=\"user\"], #sessions th[data-col=\"user\"] button')";
    browser.run(&format!("{sort}.click()"), json!([])).await;
    let first = "document.querySelector('#sessions tbody tr[data-id] [data-col=\"user\"]').innerText";
    browser.until(&format!("['user-0000', 'user-0999'].includes({first})")).await;
    let was = browser.value(first).await;
    browser.run(&format!("{sort}.click()"), json!([])).await;
    browser
        .until(&format!("['user-0000', 'user-0999'].includes({first}) && {first} !== '{}'", was.as_str().unwrap()))
        .await;
    browser.run("document.querySelector('#filter').focus()", json!([])).await;
    browser.press("user-07").await;
    browser.until("document.querySelector('#count').innerText.startsWith('100 of')").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_clients_choose_are_text_and_nothing_else() {
    let sandbox = Plan::new().start().await;
    let Some(browser) = page(&sandbox).await else { return };
    let names = [
        "<img src=x onerror=document.title='owned'>",
        "\u{202e}gnp.exe",
        "'\"--><script>document.title='owned'</script>",
    ];
    for name in names {
        session(&sandbox, name).await;
    }
    browser.until(&format!("{ROWS} === 3")).await;
    let shown = browser.value("document.querySelector('#sessions tbody').textContent").await;
    assert!(shown.as_str().unwrap().contains("<img src=x onerror="), "{shown}");
    assert_eq!(browser.value("document.querySelectorAll('#sessions img, #sessions script').length").await, 0);
    assert_ne!(browser.value("document.title").await, "owned");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_a_session_with_the_keyboard_alone() {
    let sandbox = Plan::new().admin("token_file: token").start().await;
    session(&sandbox, "anna").await;
    let Some(browser) = page(&sandbox).await else { return };
    browser.until(&format!("{ROWS} === 1")).await;
    let focus_is = "document.activeElement.closest('tbody') && document.activeElement.tagName === 'BUTTON'";
    browser.run("document.querySelector('#filter').focus()", json!([])).await;
    let mut presses = 0;
    while browser.value(&format!("Boolean({focus_is})")).await != true {
        browser.press(TAB).await;
        presses += 1;
        assert!(presses < 60, "the button cannot be reached with the keyboard");
    }
    browser.press(ENTER).await;
    browser.until("document.querySelector('#confirm').open").await;
    browser.run("document.querySelector('#token').focus()", json!([])).await;
    browser.press("wrong-token-of-somebody").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#result').innerText.includes('token')").await;
    assert_eq!(browser.value(ROWS).await, 1);
    browser
        .run(
            "if (!document.querySelector('#confirm').open) document.querySelector('#sessions tbody button').click()",
            json!([]),
        )
        .await;
    browser.until("document.querySelector('#confirm').open").await;
    browser.run("const field = document.querySelector('#token'); field.value = ''; field.focus()", json!([])).await;
    browser.press(ADMIN_TOKEN).await;
    browser.press(ENTER).await;
    browser.until(&format!("{ROWS} === 0")).await;
    assert_eq!(sandbox.records(1).await[0]["outcome"], "cancelled");
    let kept = browser.value("JSON.stringify([localStorage, sessionStorage, document.cookie])").await;
    assert!(!kept.as_str().unwrap().contains(ADMIN_TOKEN), "the token is in memory alone");
}
