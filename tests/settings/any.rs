//! Any bytes as a file of settings.

use failfast::{NamedSettings, SettingsError};

/// More than this in all windows of a breaker is legal, and would say more about the allocator than about the settings.
const MOST_BYTES: usize = 1 << 20;

/// Whether the bytes were settings, in either format.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let toml = toml::Deserializer::parse(text).ok().and_then(|toml| accepted(NamedSettings::read(toml)));
    let json = accepted(NamedSettings::read(&mut serde_json::Deserializer::from_str(text)));
    let settings = [toml, json];
    settings.iter().flatten().for_each(stand);
    settings.iter().any(Option::is_some)
}

/// Who is refused is told why.
fn accepted(read: Result<NamedSettings, SettingsError>) -> Option<NamedSettings> {
    read.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

fn stand(settings: &NamedSettings) {
    for name in settings.names().chain(["a name without a section"]) {
        settings.parts(name).unwrap();
        if bytes_of(settings, name) <= MOST_BYTES {
            settings.build(name).unwrap();
        }
    }
    let toml = toml::to_string(settings).unwrap();
    assert_eq!(&toml::from_str::<NamedSettings>(&toml).unwrap(), settings, "{toml}");
    let json = serde_json::to_string(settings).unwrap();
    assert_eq!(&serde_json::from_str::<NamedSettings>(&json).unwrap(), settings, "{json}");
}

/// About what the windows of a breaker take: a bit or two a call, 8 bytes a bucket and stripe.
fn bytes_of(settings: &NamedSettings, name: &str) -> usize {
    let json = serde_json::to_value(settings.get(name)).unwrap();
    let number = |window: &serde_json::Value, key: &str, unless: u64| window[key].as_u64().unwrap_or(unless) as usize;
    let bytes = |window: &serde_json::Value| {
        let buckets = number(window, "buckets", 10) * (number(window, "stripes", 1).next_power_of_two() + 2) * 8;
        buckets + number(window, "calls", 0)
    };
    match &json["policies"] {
        serde_json::Value::Array(list) => list.iter().map(|policy| bytes(&policy["window"])).sum(),
        table => bytes(&table["window"]),
    }
}
