//! The day that templates write into system prompts: an argument, so that the same input gives the same ids.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: u16,
    /// 1 to 12.
    month: u8,
    /// 1 to 31.
    day: u8,
}

impl Date {
    /// Months and days out of range are brought to the nearest that exist.
    pub fn new(year: u16, month: u8, day: u8) -> Self {
        Self { year, month: month.clamp(1, 12), day: day.clamp(1, 31) }
    }

    /// The directives of `strftime` that templates use; midnight for the time, others stay as they stand.
    pub(crate) fn format(self, format: &str) -> String {
        let month = MONTHS[usize::from(self.month) - 1];
        let weekday = DAYS[self.weekday()];
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let written = match chars.next() {
                Some('Y') => format!("{:04}", self.year),
                Some('y') => format!("{:02}", self.year % 100),
                Some('m') => format!("{:02}", self.month),
                Some('d') => format!("{:02}", self.day),
                Some('e') => format!("{:2}", self.day),
                Some('B') => month.to_owned(),
                Some('b') => month[..3].to_owned(),
                Some('A') => weekday.to_owned(),
                Some('a') => weekday[..3].to_owned(),
                Some('H' | 'M' | 'S') => "00".to_owned(),
                Some('%') | None => "%".to_owned(),
                Some(other) => format!("%{other}"),
            };
            out.push_str(&written);
        }
        out
    }

    /// Sakamoto's method; 0 is Sunday.
    fn weekday(self) -> usize {
        const OFFSETS: [u32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = u32::from(self.year) - u32::from(self.month < 3 && self.year > 0);
        let days = year + year / 4 - year / 100 + year / 400;
        ((days + OFFSETS[usize::from(self.month) - 1] + u32::from(self.day)) % 7) as usize
    }
}

impl Default for Date {
    /// The day that Llama 3's published template falls back to without a clock.
    fn default() -> Self {
        Self { year: 2024, month: 7, day: 26 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let check = |date: Date, format: &str, expected: &str| assert_eq!(date.format(format), expected);
        check(Date::default(), "%d %b %Y", "26 Jul 2024");
        check(Date::default(), "%A, %B %e %y %m", "Friday, July 26 24 07");
        check(Date::new(2000, 2, 29), "%a %Y-%m-%d %H:%M:%S", "Tue 2000-02-29 00:00:00");
        check(Date::new(2026, 0, 99), "%d.%m. 100%% %q %", "31.01. 100% %q %");
    }
}
