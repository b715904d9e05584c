//! What the page shows.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::browser::{Page, with_browser};
use crate::site::Site;

/// A name that would be markup, and a script, were it not shown as text.
const HOSTILE: &str = "<img src=x onerror='document.title=`owned`'><script>document.title=`owned`</script>";

#[tokio::test]
async fn it_follows_a_breaker_through_an_outage() {
    let site = Site::start(&["payments", "search"], false).await;
    with_browser(&[], async move |page| {
        page.open(&site.url()).await;
        assert_eq!(page.card("payments", ".badge").await, "closed");
        assert_eq!(page.card("payments", "h3").await, "No transitions yet");
        assert_eq!(page.text("#mode").await, "read-only");
        assert_eq!(page.ask("return document.querySelectorAll('.card button').length").await, 0);

        let payments = site.breaker("payments");
        payments.try_acquire().unwrap().success();
        payments.try_acquire().unwrap().failure();
        let counts = "1 failure in a row\nlast 10 calls: 1 of 2 calls failed";
        page.until(counts, async || page.card("payments", ".windows").await).await;

        payments.try_acquire().unwrap().failure();
        assert!(payments.try_acquire().is_err());
        page.until("open", async || page.card("payments", ".badge").await).await;
        page.until("2 calls failed in a row (limit 2)", async || page.card("payments", ".why").await).await;
        page.until("1", async || page.card("payments", ".rejected").await).await;
        assert_eq!(page.card("payments", ".failed").await, "2");
        let row = page.card("payments", ".transitions li").await;
        assert!(row.ends_with("open from closed: failed in a row"), "{row}");
        assert_eq!(page.card("search", ".badge").await, "closed");
        let announced = page.ask("return document.querySelector('#announcer').textContent").await;
        assert_eq!(announced, "payments: open, 2 calls failed in a row (limit 2)");
        assert_eq!(page.ask("return document.title").await, "(1 not closed) Circuit breakers");
        page.picture("light").await;

        // Time alone makes it half-open, and the page shows that before any call.
        page.until("half-open", async || page.card("payments", ".badge").await).await;
        page.until("0 of 0", async || page.card("payments", ".probes").await).await;
        let probe = payments.try_acquire().unwrap();
        page.until("0 of 1", async || page.card("payments", ".probes").await).await;
        probe.success();
        page.until("closed", async || page.card("payments", ".badge").await).await;
        let row = page.card("payments", ".transitions li").await;
        assert!(row.ends_with("closed from half-open"), "{row}");
        let states = page.ask("return card('payments').querySelector('.timeline').getAttribute('aria-label')").await;
        let states = states.as_str().unwrap();
        assert!(["closed", "half-open", "open"].iter().all(|state| states.contains(state)), "{states}");
    })
    .await;
}

#[tokio::test]
async fn it_says_that_it_is_disconnected_and_comes_back() {
    let mut site = Site::start(&["payments"], false).await;
    with_browser(&[], async move |page| {
        page.open(&site.url()).await;
        site.stop().await;
        page.until("disconnected", async || page.text("#connection").await).await;
        let announced = page.ask("return document.querySelector('#announcer').textContent").await;
        assert_eq!(announced, "Disconnected: what is shown is old");

        site.breaker("payments").breaker().unwrap().force_open();
        site.breaker("search");
        site.restart(true).await;
        page.until("live", async || page.text("#connection").await).await;
        page.until("forced open", async || page.card("payments", ".badge").await).await;
        page.until("closed", async || page.card("search", ".badge").await).await;
        // It is another server as far as it can know: what it may do is up to that one.
        assert_eq!(page.text("#mode").await, "writable");
        assert!(page.ask("return document.querySelectorAll('.card button').length").await.as_u64() > Some(0));
    })
    .await;
}

#[tokio::test]
async fn names_are_text() {
    let site = Site::start(&[HOSTILE, "\u{202e}right to left", "a name that is long ".repeat(20).as_str()], true).await;
    with_browser(&["--window-size=800,900"], async move |page| {
        page.open(&site.url()).await;
        page.until(&json!(3), async || page.ask("return document.querySelectorAll('.card').length").await).await;
        assert_eq!(page.ask("return document.querySelectorAll('.card img, .card script').length").await, 0);
        assert_eq!(page.card(HOSTILE, "h2").await, HOSTILE);
        assert_eq!(page.ask("return document.title").await, "Circuit breakers");
        // Nor does the page run what got into it: a script of its own is refused.
        let inline = "const script = document.createElement('script'); script.textContent = 'document.title = \"owned\"'; \
                      document.body.append(script); return document.title";
        assert_eq!(page.ask(inline).await, "Circuit breakers");
        assert_fits(&page).await;
    })
    .await;
}

#[tokio::test]
async fn it_is_dark_where_that_is_preferred_and_fits_a_narrow_window() {
    let site = Site::start(&["payments", "search"], true).await;
    site.breaker("payments").breaker().unwrap().open();
    let arguments = ["--blink-settings=preferredColorScheme=0", "--window-size=1280,900"];
    with_browser(&arguments, async move |page| {
        page.open(&site.url()).await;
        assert!(luminance(&page, "document.body").await < 0.1);
        page.picture("dark").await;
        page.resize(400, 900).await;
        // Chromium's own window has a width below which it does not go.
        page.ask("document.body.style.width = '400px'").await;
        assert_fits(&page).await;
        page.picture("narrow").await;
    })
    .await;
}

#[tokio::test]
async fn nothing_moves_when_states_change() {
    let site = Site::start(&["payments", "search"], true).await;
    with_browser(&["--window-size=1280,1400"], async move |page| {
        page.open(&site.url()).await;
        page.until("closed", async || page.card("search", ".badge").await).await;
        let places = "return JSON.stringify([...document.querySelectorAll('.card, .card > *, .controls button, h1, #summary')] \
                      .map((element) => { const { x, y, width, height } = element.getBoundingClientRect(); \
                      return [element.className, x, y, width, height]; }))";
        let before = page.ask(places).await;
        let keyed = site.breaker("payments");
        let breaker = keyed.breaker().unwrap();
        let moves: [(&str, fn(&_)); 5] = [
            ("open", |breaker: &failfast::CircuitBreaker<_, _, _>| breaker.open()),
            ("half-open", |breaker| breaker.half_open().unwrap()),
            ("forced open", |breaker| breaker.force_open()),
            ("disabled", |breaker| breaker.disable()),
            ("metrics only", |breaker| breaker.metrics_only()),
        ];
        for (state, make) in moves {
            make(breaker);
            page.until(state, async || page.card("payments", ".badge").await).await;
            assert_eq!(page.ask(places).await, before, "{state}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_read_is_legible_in_either_scheme() {
    for scheme in ["--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"] {
        let site = Site::start(&["payments"], true).await;
        with_browser(&[scheme], async move |page| {
            page.open(&site.url()).await;
            let keyed = site.breaker("payments");
            let breaker = keyed.breaker().unwrap();
            let mut seen = BTreeSet::new();
            let moves: [fn(&_); 6] = [
                |breaker: &failfast::CircuitBreaker<_, _, _>| breaker.close(),
                |breaker| breaker.open(),
                |breaker| breaker.half_open().unwrap(),
                |breaker| breaker.force_open(),
                |breaker| breaker.disable(),
                |breaker| breaker.metrics_only(),
            ];
            for make in moves {
                make(breaker);
                let state = breaker.state().as_str();
                let is_shown = "return document.querySelector('.card').dataset.state";
                page.until(&json!(state), async || page.ask(is_shown).await).await;
                seen.insert(state);
                for element in [".badge", ".why", ".since", "dt", ".transitions b", ".transitions i", "button"] {
                    let contrast = contrast(&page, element).await;
                    assert!(contrast >= 4.5, "{element} of {state}: {contrast:.2}");
                }
            }
            assert_eq!(seen.len(), 6);
        })
        .await;
    }
}

/// Nothing is wider than the window.
async fn assert_fits(page: &Page) {
    let overflow = "return [...document.body.querySelectorAll('main *, .top, .top *')].filter((element) => \
                    element.getBoundingClientRect().right > document.body.getBoundingClientRect().right + 0.5 \
                    && !element.closest('svg')).map((element) => element.className || element.localName)";
    assert_eq!(page.ask(overflow).await, json!([]));
}

const LUMINANCE: &str = "const channels = (color) => color.match(/[\\d.]+/g).map(Number); \
    const luminance = (color) => channels(color).slice(0, 3).map((value) => value / 255) \
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)) \
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0); \
    const behind = (element) => { const color = getComputedStyle(element).backgroundColor; \
    return channels(color)[3] === 0 ? behind(element.parentElement) : color; };";

/// Of what is behind an element, by WCAG 2.
async fn luminance(page: &Page, element: &str) -> f64 {
    number(&page.ask(&format!("{LUMINANCE} return luminance(behind({element}))")).await)
}

/// Between a card's text and what is behind it, by WCAG 2.
async fn contrast(page: &Page, selector: &str) -> f64 {
    let script = format!(
        "{LUMINANCE} const element = document.querySelector('.card').querySelector({selector:?}); \
         const both = [getComputedStyle(element).color, behind(element)].map(luminance); \
         return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05)"
    );
    number(&page.ask(&script).await)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}
