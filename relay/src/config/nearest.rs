//! The known name that a mistyped one was probably meant to be.

/// The candidate at the least distance; of several the first. `None` only without candidates.
pub(super) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed: Vec<char> = typed.chars().take(CHARS_MAX).collect();
    candidates.into_iter().min_by_key(|candidate| {
        let candidate: Vec<char> = candidate.chars().take(CHARS_MAX).collect();
        // A right name in a wrong section is nearer than a wrong name in a right section.
        let whole = distance(&typed, &candidate);
        let name = distance(last_part(&typed), last_part(&candidate));
        whole.min(name * 2 + 1)
    })
}

/// Longer names are compared by their beginnings, so that no input makes this slow.
const CHARS_MAX: usize = 80;

fn last_part(name: &[char]) -> &[char] {
    name.rsplit(|c| *c == '.').next().unwrap_or(name)
}

/// Levenshtein's distance: insertions, deletions and replacements from one to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_name() {
        fn check(typed: &str, expected: &str) {
            let names =
                ["node.name", "node.workers", "listen.rtmp", "limits.log_span", "log.level"];
            assert_eq!(nearest(typed, names), Some(expected), "{typed}");
        }
        check("node.worker", "node.workers");
        check("limits.logspan", "limits.log_span");
        check("limit.log_span", "limits.log_span");
        check("workers", "node.workers");
        check("server.rtmp", "listen.rtmp");
        check("log.levle", "log.level");
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn distances_are_levenshteins() {
        fn check(from: &str, to: &str, expected: usize) {
            let [a, b] = [from, to].map(|text| text.chars().collect::<Vec<_>>());
            assert_eq!(distance(&a, &b), expected, "{from} {to}");
            assert_eq!(distance(&b, &a), expected, "{to} {from}");
        }
        check("", "", 0);
        check("", "abc", 3);
        check("kitten", "sitting", 3);
        check("abc", "abc", 0);
        check("abc", "acb", 2);
    }
}
