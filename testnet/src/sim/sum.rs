//! What many runs showed, in one line each and in one for all.

use std::fmt;

use super::Outcome;

/// Many outcomes, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum {
    /// Runs.
    pub seeds: u64,
    /// Runs with a failure.
    pub failed: u64,
    transfers: usize,
    exact: usize,
    lost_bytes: u64,
    wrong_bytes: u64,
    faults: usize,
    fewest_faults: usize,
    longest_outage_s: f64,
    resumes: u64,
    public_key_ops_in_resumes: u64,
}

impl Sum {
    /// One more run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.fewest_faults = if self.seeds == 0 { outcome.faults } else { self.fewest_faults.min(outcome.faults) };
        self.seeds += 1;
        self.failed += u64::from(!outcome.failures.is_empty());
        self.transfers += outcome.transfers;
        self.exact += outcome.exact;
        self.lost_bytes += outcome.lost_bytes;
        self.wrong_bytes += outcome.wrong_bytes;
        self.faults += outcome.faults;
        self.longest_outage_s = self.longest_outage_s.max(outcome.longest_outage_s);
        self.resumes += outcome.resumes;
        self.public_key_ops_in_resumes += outcome.public_key_ops_in_resumes;
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} seeds: {} failed; {} of {} transfers exact; bytes lost {}, duplicated or reordered {}; {} faults, at least {} a seed; \
             longest outage {:.1} s; {} resumes with {} public-key operations",
            self.seeds,
            self.failed,
            self.exact,
            self.transfers,
            self.lost_bytes,
            self.wrong_bytes,
            self.faults,
            self.fewest_faults,
            self.longest_outage_s,
            self.resumes,
            self.public_key_ops_in_resumes
        )
    }
}

/// One run in one line on stderr, and a line for each failure.
pub fn report(outcome: &Outcome) {
    eprintln!(
        "seed {}: {} of {} transfers exact, {} faults, longest outage {:.1} s, {} resumes, {:.1} virtual s, digest {}",
        outcome.seed,
        outcome.exact,
        outcome.transfers,
        outcome.faults,
        outcome.longest_outage_s,
        outcome.resumes,
        outcome.virtual_s,
        outcome.trace_digest.get(..16).unwrap_or(&outcome.trace_digest)
    );
    for failure in &outcome.failures {
        eprintln!("  {failure}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_run_lacks_shows_in_the_sum_whichever_comes_first() {
        let good =
            Outcome { transfers: 2, exact: 2, faults: 12, longest_outage_s: 60.0, resumes: 9, ..Outcome::default() };
        let bad = Outcome {
            transfers: 3,
            exact: 1,
            lost_bytes: 7,
            wrong_bytes: 5,
            faults: 10,
            longest_outage_s: 3600.0,
            resumes: 4,
            public_key_ops_in_resumes: 1,
            failures: vec!["a stream ended early".to_owned()],
            ..Outcome::default()
        };
        for runs in [[&good, &bad], [&bad, &good]] {
            let mut sum = Sum::default();
            runs.into_iter().for_each(|run| sum.add(run));
            assert_eq!(
                sum.to_string(),
                "2 seeds: 1 failed; 3 of 5 transfers exact; bytes lost 7, duplicated or reordered 5; 22 faults, at least 10 a seed; \
                 longest outage 3600.0 s; 13 resumes with 1 public-key operations"
            );
        }
    }
}
