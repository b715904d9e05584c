//! What the page's buttons do.

use failfast::State;

use crate::browser::{ENTER, ESCAPE, Page, TAB, with_browser};
use crate::site::Site;

#[tokio::test]
async fn each_button_does_what_it_says_once_confirmed() {
    let site = Site::start(&["payments", "search"], true).await;
    with_browser(&["--window-size=1000,1200"], async move |page| {
        page.open(&site.url()).await;
        page.until("closed", async || page.card("payments", ".badge").await).await;

        for (action, state, shown) in [
            ("open", State::Open, "open"),
            ("half_open", State::HalfOpen, "half-open"),
            ("close", State::Closed, "closed"),
            ("force_open", State::ForcedOpen, "forced open"),
            ("disable", State::Disabled, "disabled"),
            ("metrics_only", State::MetricsOnly, "metrics only"),
            ("reset", State::Closed, "closed"),
        ] {
            let before = site.state("payments");
            press(&page, action).await;
            // It says what it would do, and does nothing yet.
            assert!(page.text("#confirm-title").await.ends_with(": payments"));
            assert!(page.text("#confirm-text").await.len() > 40);
            assert_eq!(site.state("payments"), before);
            page.click("#confirm-do").await;
            page.until(shown, async || page.card("payments", ".badge").await).await;
            page.until(&format!("payments is {shown} now"), async || page.text("#toast").await).await;
            assert_eq!(site.state("payments"), state);
        }
        assert_eq!(site.state("search"), State::Closed);
        let row = page.card("payments", ".transitions li").await;
        assert!(row.ends_with("closed from metrics only"), "{row}");
    })
    .await;
}

#[tokio::test]
async fn without_confirmation_nothing_happens() {
    let site = Site::start(&["payments"], true).await;
    with_browser(&["--window-size=1000,1200"], async move |page| {
        page.open(&site.url()).await;
        press(&page, "force_open").await;
        // While it asks, the world goes on.
        assert_eq!(page.text("#confirm-now").await, "Now it is closed.");
        site.breaker("payments").breaker().unwrap().disable();
        page.until("Now it is disabled.", async || page.text("#confirm-now").await).await;
        site.breaker("payments").breaker().unwrap().close();
        page.until("Now it is closed.", async || page.text("#confirm-now").await).await;
        page.click("#confirm-cancel").await;
        page.until(&false, async || is_asking(&page).await).await;

        // In vain: it says so instead of asking.
        click(&page, "close").await;
        let said = "payments is closed: “Close” would change nothing";
        page.until(said, async || page.text("#toast").await).await;
        assert!(!is_asking(&page).await);
        assert_eq!(site.state("payments"), State::Closed);
        let moves = site.breaker("payments").breaker().unwrap().observer().history.recent().count();
        assert_eq!(moves, 2, "the test's own");
    })
    .await;
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let site = Site::start(&["payments"], true).await;
    with_browser(&["--window-size=1000,1200"], async move |page| {
        page.open(&site.url()).await;
        let focused = "return document.activeElement.dataset.action ?? document.activeElement.id";
        for expected in ["open", "half_open", "close", "reset", "force_open"] {
            page.type_key(TAB).await;
            assert_eq!(page.ask(focused).await, expected);
        }
        // It begins at what does nothing, and Escape is a way out; then the button has the focus again.
        page.type_key(ENTER).await;
        page.until("confirm-cancel", async || page.ask(focused).await.as_str().unwrap_or("").to_owned()).await;
        page.type_key(ESCAPE).await;
        page.until("force_open", async || page.ask(focused).await.as_str().unwrap_or("").to_owned()).await;
        assert_eq!(site.state("payments"), State::Closed);

        page.type_key(ENTER).await;
        page.until(&true, async || is_asking(&page).await).await;
        page.type_key(TAB).await;
        assert_eq!(page.ask(focused).await, "confirm-do");
        page.type_key(ENTER).await;
        page.until("forced open", async || page.card("payments", ".badge").await).await;
        assert_eq!(site.state("payments"), State::ForcedOpen);
    })
    .await;
}

async fn click(page: &Page, action: &str) {
    page.click(&format!("[data-name=payments] [data-action={action}]")).await;
}

/// Presses a button, and waits for its question.
async fn press(page: &Page, action: &str) {
    click(page, action).await;
    page.until(&true, async || is_asking(page).await).await;
}

async fn is_asking(page: &Page) -> bool {
    page.ask("return document.querySelector('#confirm').open").await == true
}
