//! What a server counts, as whoever scrapes it sees it. It has to be launched with `MARVIN_METRICS_LISTEN`.
use serde_json::Value;

use super::server::Server;

/// Where the metrics of this server are served, from its log.
pub fn metrics_url(server: &Server) -> String {
    let line = server.log().lines().find(|line| line.contains("metrics are served")).unwrap().to_owned();
    let line: Value = serde_json::from_str(&line).unwrap();
    format!("http://{}", line["address"].as_str().unwrap())
}

/// All that is counted at one moment, in the text format of Prometheus.
pub struct Metrics(String);

impl Metrics {
    pub async fn of(server: &Server) -> Self {
        let answer = reqwest::get(format!("{}/metrics", metrics_url(server))).await.unwrap();
        Self(answer.text().await.unwrap())
    }

    /// The sum of the series of this name; nothing counted is 0. With a label, as `name{label="value"`, of those that begin so.
    pub fn sum(&self, name: &str) -> u64 {
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ', ',', '}']).then(|| rest.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        };
        self.0.lines().filter_map(value).sum()
    }
}
