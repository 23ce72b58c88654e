//! Number formats (ECMA-376, 18.8.30): which numbers are dates, times or percentages, and how they are written here.

use crate::extract::xml::Element;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Format {
    #[default]
    General,
    /// Digits after the point.
    Percent(usize),
    Date,
    Time,
    DateTime,
}

/// The format of each cell style.
pub(super) fn formats(styles: &Element) -> Vec<Format> {
    let own = styles.child("numFmts").into_iter().flat_map(|formats| formats.named("numFmt"));
    let own: Vec<(&str, &str)> = own
        .filter_map(|format| Some((format.attribute("numFmtId")?, format.attribute("formatCode")?)))
        .collect();
    let cells = styles.child("cellXfs").into_iter().flat_map(|cells| cells.named("xf"));
    let format = |cell: &Element| {
        let id = cell.attribute("numFmtId").unwrap_or("0");
        match own.iter().find(|(own, _)| *own == id) {
            Some((_, code)) => Format::of_code(code),
            None => Format::built_in(id.parse().unwrap_or(0)),
        }
    };
    cells.map(format).collect()
}

impl Format {
    fn built_in(id: u32) -> Self {
        match id {
            9 => Self::Percent(0),
            10 => Self::Percent(2),
            // 27 to 36 and 50 to 58 are the dates of East Asian versions.
            14..=17 | 27..=31 | 34..=36 | 50..=54 | 57..=58 => Self::Date,
            18..=21 | 32..=33 | 45..=47 | 55..=56 => Self::Time,
            22 => Self::DateTime,
            _ => Self::General,
        }
    }

    fn of_code(code: &str) -> Self {
        // Positive numbers are shown by the first section.
        let mut plain = String::new();
        let mut chars = code.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => {
                    chars.by_ref().find(|&c| c == '"');
                }
                '[' => {
                    let inside: String = chars.by_ref().take_while(|&c| c != ']').collect();
                    if matches!(inside.to_lowercase().as_str(), "h" | "hh" | "m" | "mm" | "s" | "ss") {
                        plain.push('h');
                    }
                }
                '\\' | '_' | '*' => {
                    chars.next();
                }
                ';' => break,
                c => plain.push(c.to_ascii_lowercase()),
            }
        }
        let plain = plain.replace("am/pm", "h").replace("a/p", "h");
        if plain.contains("general") {
            return Self::General;
        }
        if plain.contains('%') {
            let digits = plain.split_once('.').map_or("", |(_, after)| after);
            return Self::Percent(digits.chars().take_while(|c| "0#?".contains(*c)).count());
        }
        if plain.contains(['0', '#', '?']) && !plain.contains(['y', 'd', 'h']) && !plain.contains("ss") {
            return Self::General;
        }
        match (plain.contains(['y', 'd']), plain.contains(['h', 's'])) {
            (true, true) => Self::DateTime,
            (true, false) => Self::Date,
            (false, true) => Self::Time,
            (false, false) if plain.contains('m') => Self::Date,
            (false, false) => Self::General,
        }
    }

    /// `written` is the number as the file has it.
    pub(super) fn show(self, value: f64, written: &str, from_1904: bool) -> String {
        let is_date = (0.0..2_958_466.0).contains(&value);
        match self {
            Self::Percent(digits) => format!("{:.digits$}%", value * 100.0),
            Self::Date | Self::DateTime if is_date && value >= 1.0 => {
                let seconds = (value.fract() * 86_400.0).round() as u64;
                let date = date(value.floor() as i64 + seconds as i64 / 86_400, from_1904);
                let seconds = seconds % 86_400;
                if seconds == 0 { date } else { format!("{date} {}", clock(seconds)) }
            }
            // Hours above 24 belong to durations.
            Self::Time | Self::Date | Self::DateTime if is_date => clock((value * 86_400.0).round() as u64),
            _ if value != 0.0 && !(1e-5..1e15).contains(&value.abs()) => written.to_string(),
            _ => value.to_string(),
        }
    }
}

fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if seconds == 0 {
        format!("{hours:02}:{minutes:02}")
    } else {
        format!("{hours:02}:{minutes:02}:{seconds:02}")
    }
}

/// Day 1 is 1900-01-01, and 1900 has a day too much (day 60), as Lotus 1-2-3 had it.
fn date(serial: i64, from_1904: bool) -> String {
    let since_1970 = match (from_1904, serial) {
        (true, _) => serial - 24_107,
        (false, ..60) => serial - 25_568,
        (false, _) => serial - 25_569,
    };
    // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    let z = since_1970 + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_a_number_is() {
        let expected = [
            ("General", Format::General),
            ("#,##0.00", Format::General),
            ("0.0%", Format::Percent(1)),
            ("yyyy\\-mm\\-dd", Format::Date),
            ("[$-804]yyyy\"年\"m\"月\"d\"日\";@", Format::Date),
            ("mmm", Format::Date),
            ("[h]:mm:ss", Format::Time),
            ("h:mm AM/PM", Format::Time),
            ("m/d/yy h:mm", Format::DateTime),
            ("[Red]0.00\" kg\"", Format::General),
            ("\"$\"#,##0_);\\(\"$\"#,##0\\)", Format::General),
        ];
        for (code, format) in expected {
            assert_eq!(Format::of_code(code), format, "{code}");
        }
    }

    /// Days from Excel itself: 1900-01-01 is 1, 1900-03-01 is 61, 2000-01-01 is 36526, 2024-02-29 is 45351.
    #[test]
    fn days_become_dates() {
        let show = |format: Format, value: f64| format.show(value, "", false);
        assert_eq!(show(Format::Date, 1.0), "1900-01-01");
        assert_eq!(show(Format::Date, 59.0), "1900-02-28");
        assert_eq!(show(Format::Date, 61.0), "1900-03-01");
        assert_eq!(show(Format::Date, 36_526.0), "2000-01-01");
        assert_eq!(show(Format::DateTime, 45_351.75), "2024-02-29 18:00");
        assert_eq!(show(Format::Time, 1.5), "36:00");
        assert_eq!(Format::Date.show(0.0 + 36_526.0 - 1462.0, "", true), "2000-01-01");
        assert_eq!(show(Format::Date, -3.0), "-3");
        assert_eq!(show(Format::Percent(1), 0.125), "12.5%");
        assert_eq!(Format::General.show(1e300, "1E+300", false), "1E+300");
        assert_eq!(Format::General.show(0.1, "0.10000000000000001", false), "0.1");
    }
}
