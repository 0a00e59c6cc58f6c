//! The results that were kept.

use std::path::Path;

use openconsensus_bench::{Failure, Report};

/// The benchmarks in the order in which they are shown, with what each is about.
pub(crate) const BENCHMARKS: &[&str] =
    &["memory_cluster", "engine", "log_stores", "etcd", "scaling", "failover"];

/// The last run of each benchmark that was run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    reports: Vec<Report>,
}

impl Results {
    /// Reads all files of a folder, which need not be there.
    ///
    /// # Errors
    ///
    /// When a file is something else, or was not measured in earnest.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let mut reports = Vec::new();
        for name in BENCHMARKS {
            let path = folder.join(format!("{name}.json"));
            if !path.exists() {
                continue;
            }
            let report = Report::read(&path)?;
            if report.run.smoke || report.run.debug_build {
                return Err(format!(
                    "{name}.json was not measured in earnest: run it without --smoke, in release"
                )
                .into());
            }
            reports.push(report);
        }
        Ok(Self { reports })
    }

    /// The run of a benchmark.
    pub(crate) fn of(&self, benchmark: &str) -> Option<&Report> {
        self.reports.iter().find(|report| report.benchmark == benchmark)
    }

    pub(crate) fn all(&self) -> &[Report] {
        &self.reports
    }

    #[cfg(test)]
    pub(crate) fn with(reports: Vec<Report>) -> Self {
        Self { reports }
    }
}
