//! Time zones by IANA name, from the database that travels in the binary.
//!
//! Upholds: the same name means the same zone on every machine a job runs on. That is why the machine's own zone files
//! are not asked: workers with different ones would put one record into two windows.

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// The zone of a name; `None` if there is none.
pub fn find(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok().filter(|zone| !zone.is_unknown())
}

/// All names, for suggestions.
pub(super) fn names() -> Vec<String> {
    TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones() {
        for (name, canonical) in [("Asia/Seoul", "Asia/Seoul"), ("UTC", "UTC"), ("asia/seoul", "Asia/Seoul")] {
            assert_eq!(find(name).and_then(|zone| zone.iana_name().map(str::to_owned)).as_deref(), Some(canonical), "{name}");
        }
        for name in ["", "Asia/Soul", "Etc/Unknown", "../etc/passwd", "KST"] {
            assert!(find(name).is_none(), "{name}");
        }
        assert!(names().iter().any(|name| name == "Asia/Seoul"));
    }
}
