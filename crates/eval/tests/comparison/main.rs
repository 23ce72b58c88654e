//! The crate from outside: records go in, `report.json`, the table and `report.html` come out.

#[cfg(test)]
mod compare;
#[cfg(test)]
mod report;
#[cfg(test)]
mod sample;
