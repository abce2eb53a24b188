//! The cases: every hot function of the wire and stream rooms, and what is put together from them.

mod commands;
mod cursors;
mod ingest;
mod joins;
mod material;
mod segments;
mod session;
mod worker;

use crate::case::Case;

/// Every case, in the order of the way of a message.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(ingest::cases());
    cases.extend(commands::cases());
    cases.extend(session::cases());
    cases.extend(segments::cases());
    cases.extend(cursors::cases());
    cases.extend(joins::cases());
    cases.extend(worker::cases());
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::case::Meter;

    #[test]
    fn every_case_runs_and_measures_something() {
        let mut names = HashSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{}: two cases of one name", case.name);
            let mut work = (case.prepare)();
            assert!(work.units > 0, "{}", case.name);
            let mut meter = Meter::new();
            (0..2).for_each(|_| (work.round)(&mut meter));
            assert!(!meter.take().is_zero(), "{}: nothing was measured", case.name);
            assert!(case.counted.is_none_or(|(few, more)| 0 < few && few < more), "{}", case.name);
        }
    }
}
